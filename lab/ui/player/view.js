/* What is seen of the player. Words from outside (labels, notes, messages) enter the page through textContent only. */
const spoken = (seconds) => `${seconds.toFixed(1)} seconds`;

class PlayerView {
  /* element holds player.html; act has the methods toggle, choose, seek, loop, loudness and retry. */
  constructor(element, act) {
    const find = (selector) => element.querySelector(selector);
    this.root = find('.player');
    this.parts = {};
    for (const name of ['message-text', 'retry', 'progress', 'tracks', 'play', 'seek', 'played', 'band', 'region', 'from', 'to', 'time', 'whole', 'loudness', 'status', 'keys']) {
      this.parts[name] = find(`.${name}`);
    }
    this.parts.loopButton = find('.loop');
    this.parts.loopText = find('.loop-text');
    this.buttons = [];
    this.duration = 0;
    this.dragging = null; // the slider under the finger: the clock leaves it alone
    const { play, retry, loopButton, whole, loudness, tracks } = this.parts;
    play.addEventListener('click', () => act.toggle());
    retry.addEventListener('click', () => act.retry());
    loopButton.addEventListener('click', () => act.loop({ on: loopButton.getAttribute('aria-pressed') !== 'true' }));
    whole.addEventListener('click', () => {
      act.loop({ on: true, from: 0, to: this.duration });
      loopButton.focus();
    });
    loudness.addEventListener('input', () => act.loudness(loudness.valueAsNumber / 100));
    tracks.addEventListener('click', (event) => {
      const index = this.buttons.indexOf(event.target.closest('button'));
      if (index >= 0) act.choose(index);
    });
    this.slider('seek', () => act.seek(this.parts.seek.valueAsNumber));
    this.slider('from', () => act.loop({ on: true, from: this.parts.from.valueAsNumber, moved: 'from' }));
    this.slider('to', () => act.loop({ on: true, to: this.parts.to.valueAsNumber, moved: 'to' }));
  }

  /* While a slider is moved it shows where it would go; `done` is called where it is let go. */
  slider(name, done) {
    const slider = this.parts[name];
    slider.addEventListener('input', () => {
      this.dragging = name;
      if (name === 'seek') this.showPosition(slider.valueAsNumber);
      else this.showRegion(this.parts.from.valueAsNumber, this.parts.to.valueAsNumber);
    });
    slider.addEventListener('change', () => {
      this.dragging = null;
      done();
    });
    slider.addEventListener('keydown', (event) => {
      const step = { ArrowLeft: -0.1, ArrowDown: -0.1, ArrowRight: 0.1, ArrowUp: 0.1 }[event.key];
      if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault(); // the step of the slider itself is 10 ms
      event.stopPropagation();
      slider.valueAsNumber += step;
      done();
    });
  }

  // ---- the states without sound -----------------------------------------------------------------------------------------------------------------

  show(state, message = '') {
    this.root.dataset.state = state;
    this.parts['message-text'].textContent = message;
    this.parts.retry.hidden = state !== 'error';
    // What stands in the middle of the player is said aloud as well: the error and the first count, not each of them.
    this.parts['message-text'].setAttribute('role', state === 'error' ? 'alert' : 'status');
    this.root.setAttribute('aria-busy', String(state === 'loading'));
  }

  empty() {
    this.show('empty', 'Nothing to play yet.');
  }

  loading(done, all) {
    this.show('loading', `loading ${Math.min(done + 1, all)} of ${all}`);
    this.parts.progress.style.setProperty('--done', `${(100 * done) / all}%`);
  }

  failed(message) {
    this.show('error', message);
  }

  // ---- the clips --------------------------------------------------------------------------------------------------------------------------------

  ready(tracks, duration) {
    this.duration = duration;
    this.dragging = null;
    for (const name of ['seek', 'from', 'to']) this.parts[name].max = String(Math.ceil(duration * 100) / 100);
    this.parts.status.textContent = '';
    this.label(tracks);
    this.show('ready');
  }

  /* Makes one button per clip, or gives those that are there their new words (a blind test tells the names at its end). */
  label(tracks) {
    while (this.buttons.length > tracks.length) this.buttons.pop().remove();
    while (this.buttons.length < tracks.length) this.buttons.push(this.button());
    tracks.forEach((track, index) => {
      const button = this.buttons[index];
      const key = track.label === 'X' ? 'x' : index < 9 ? String(index + 1) : '';
      button.querySelector('.track-key').textContent = key;
      button.querySelector('.track-key').hidden = !key;
      button.querySelector('.track-label').textContent = track.label;
      button.querySelector('.track-note').textContent = track.note;
      button.querySelector('.track-note').hidden = !track.note;
    });
    this.showKeys(tracks);
  }

  button() {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'track';
    button.setAttribute('aria-pressed', 'false');
    const part = (tag, name, parent) => {
      const made = document.createElement(tag);
      made.className = name;
      parent.append(made);
      return made;
    };
    part('span', 'track-key', button).setAttribute('aria-hidden', 'true');
    const words = part('span', 'track-words', button);
    part('span', 'track-label', words);
    part('span', 'track-note', words);
    const sound = part('span', 'track-sound', button);
    sound.append(this.root.querySelector('.volume svg').cloneNode(true));
    this.parts.tracks.append(button);
    return button;
  }

  showKeys(tracks) {
    const last = Math.min(9, tracks.length);
    const x = tracks.some((track) => track.label === 'X') ? ['x'] : [];
    const line = [[[last > 1 ? `1–${last}` : '1', ...x], 'choose'], [['space'], 'play'], [['l'], 'loop']].map(([keys, word]) => {
      const entry = document.createElement('span');
      for (const key of keys) {
        const made = document.createElement('kbd');
        made.textContent = key;
        entry.append(made, ' ');
      }
      entry.append(word);
      return entry;
    });
    this.parts.keys.replaceChildren(...line);
  }

  // ---- the moment -------------------------------------------------------------------------------------------------------------------------------

  /* Shows everything that a press may have changed. */
  update(engine, words) {
    this.root.toggleAttribute('data-playing', engine.playing);
    this.root.toggleAttribute('data-loop', engine.looping);
    this.parts.play.setAttribute('aria-label', engine.playing ? 'Pause' : 'Play');
    this.buttons.forEach((button, index) => button.setAttribute('aria-pressed', String(index === engine.chosen)));
    const [from, to] = engine.region.map((frame) => frame / engine.rate);
    const part = engine.looping && to - from < engine.duration - 0.005;
    this.parts.loopButton.setAttribute('aria-pressed', String(engine.looping));
    this.parts.loopText.textContent = part ? `Loop ${from.toFixed(1)}–${to.toFixed(1)} s` : 'Loop';
    this.parts.whole.hidden = !part;
    this.parts.region.hidden = !engine.looping;
    if (this.dragging !== 'from') this.parts.from.valueAsNumber = from;
    if (this.dragging !== 'to') this.parts.to.valueAsNumber = to;
    this.showRegion(this.parts.from.valueAsNumber, this.parts.to.valueAsNumber);
    this.tick(engine);
    this.parts.seek.setAttribute('aria-valuetext', `${engine.position().toFixed(1)} of ${spoken(engine.duration)}`);
    if (this.parts.status.textContent !== words) this.parts.status.textContent = words;
  }

  /* Shows the passing of time. */
  tick(engine) {
    if (this.dragging === 'seek') return;
    this.parts.seek.valueAsNumber = engine.position();
    this.showPosition(engine.position());
  }

  showPosition(seconds) {
    this.parts.played.style.transform = `scaleX(${this.duration ? seconds / this.duration : 0})`;
    const text = `${seconds.toFixed(1)} / ${this.duration.toFixed(1)} s`;
    if (this.parts.time.textContent !== text) this.parts.time.textContent = text;
  }

  showRegion(from, to) {
    this.parts.band.style.setProperty('--from', String(from / (this.duration || 1)));
    this.parts.band.style.setProperty('--to', String(to / (this.duration || 1)));
    this.parts.from.setAttribute('aria-valuetext', spoken(from));
    this.parts.to.setAttribute('aria-valuetext', spoken(to));
  }
}
