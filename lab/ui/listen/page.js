/* Small helpers of the listener's page. Words enter it through textContent only. */
const fill = (text, values = {}) => text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);

const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, '');
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};

const randomName = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');

/* What a browser remembers of a listener. Where it may keep nothing, it lasts as long as the page. */
class Memory {
  constructor() {
    this.own = new Map();
  }

  get(name) {
    try {
      return localStorage.getItem(`lab-listening:${name}`) ?? this.own.get(name) ?? null;
    } catch {
      return this.own.get(name) ?? null;
    }
  }

  set(name, value) {
    this.own.set(name, value);
    try {
      localStorage.setItem(`lab-listening:${name}`, value);
    } catch {
      // kept in this page
    }
  }

  /* A random number for this browser: two tabs that ask for it at once read the same one back. */
  listener() {
    if (!this.get('listener')) this.set('listener', randomName());
    return this.get('listener');
  }
}

/* The way to the server. */
class Line {
  constructor(server, study) {
    Object.assign(this, { server, study, session: null });
  }

  /* Throws what a listener may read; `kind` says of which sort. */
  async ask(what, more = {}) {
    let answer = null;
    try {
      answer = await this.server.ask({ do: what, study: this.study, session: this.session, ...more });
    } catch {
      // told below
    }
    if (!answer || typeof answer !== 'object') throw Object.assign(new Error(''), { kind: 'unreachable' });
    if (answer.error) throw Object.assign(new Error(answer.error), { kind: answer.kind });
    return answer;
  }

  /* The bytes of a clip, and its receipt. On the way they are mixed with a key, another one each time: see `lab.listening.sealing`. */
  async clip(token) {
    const { sealed, key, receipt } = await this.ask('clip', { token });
    const bytes = Uint8Array.from(atob(sealed), (character) => character.charCodeAt(0));
    const mask = Uint8Array.from(atob(key), (character) => character.charCodeAt(0));
    for (let k = 0; k < bytes.length; k += 1) bytes[k] ^= mask[k % mask.length];
    return { bytes, receipt };
  }
}
