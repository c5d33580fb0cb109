/* The player of one page: takes the clips that Python names, and joins the engine (engine.js), the view (view.js), the keyboard and Gradio. */
const players = (window.syncPlayers ??= new Set()); // all players of the page: one of them sounds, one of them answers to the keys

const IDLE_MILLISECONDS = 30000; // after so long without sound the loudspeaker is given back

class Player {
  constructor(element, { trigger, props, server, watch }) {
    Object.assign(this, { element, trigger, server });
    this.tracks = [];
    this.clips = new Map(); // token -> decoded clip
    this.engine = null;
    this.context = null;
    this.version = null;
    this.used = 0;
    this.volume = 1;
    this.looping = Boolean(props.loop);
    this.view = new PlayerView(element, {
      toggle: () => this.toggle(),
      choose: (index) => this.choose(index),
      seek: (seconds) => this.change(() => this.engine.seek(seconds)),
      loop: (wish) => this.change(() => this.loop(wish)),
      loudness: (volume) => this.change(() => this.setVolume(volume)),
      retry: () => this.load(this.value, true),
    });
    for (const press of ['pointerdown', 'focusin']) element.addEventListener(press, () => (this.used = performance.now()));
    this.onkey = (event) => this.key(event);
    document.addEventListener('keydown', this.onkey);
    players.forEach((player) => player.element.isConnected || player.close());
    players.add(this);
    watch('value', () => this.load(props.value));
    this.load(props.value);
  }

  // ---- the clips --------------------------------------------------------------------------------------------------------------------------------

  async load(value, again = false) {
    const { version = '', tracks = [], chosen = null } = value ? JSON.parse(value) : {};
    const index = tracks.findIndex((track) => track.token === chosen);
    const tokens = (list) => JSON.stringify(list.map((track) => track.token));
    const renamed = this.engine && tracks.length && tokens(tracks) === tokens(this.tracks);
    const unchanged = version === this.version && !again;
    Object.assign(this, { value, version });
    if (renamed) {
      this.tracks = tracks; // the same clips, perhaps under other names: the sound goes on
      this.view.label(tracks);
    }
    if (renamed || unchanged) {
      this.choose(index, false);
      return;
    }
    this.engine?.dispose();
    this.engine = null;
    this.tracks = tracks;
    if (!tracks.length) {
      this.view.empty();
      return;
    }
    try {
      const clips = await this.fetchAll(tracks);
      if (this.tracks !== tracks) return; // newer clips have come meanwhile
      this.clips = clips;
    } catch (error) {
      if (this.tracks === tracks) this.view.failed(error.message);
      return;
    }
    this.engine = new SyncEngine({
      clips: tracks.map((track) => this.clips.get(track.token)),
      open: () => this.open(),
      tell: (what, detail) => this.told(what, detail),
    });
    this.engine.chosen = Math.max(0, index);
    this.engine.setLoop(this.looping);
    this.setVolume(this.volume);
    this.view.ready(tracks, this.engine.duration);
    this.show();
  }

  async fetchAll(tracks) {
    let done = 0;
    let failed = false;
    const count = () => this.tracks === tracks && !failed && this.view.loading(done, tracks.length);
    count();
    const fetched = tracks.map(async (track) => {
      const clip = this.clips.get(track.token) ?? (await this.clip(track));
      done += 1;
      count();
      return [track.token, clip];
    });
    try {
      return new Map(await Promise.all(fetched));
    } catch (error) {
      failed = true;
      throw error;
    }
  }

  /* The decoded clip of a track. The bytes come through the server function: no address names them. */
  async clip({ token, label }) {
    let answer = null;
    try {
      answer = await this.server.clip({ token });
    } catch {
      // told below
    }
    if (!answer) throw new Error(`“${label}” did not arrive. Check the connection to the server, then try again.`);
    if (answer.error) throw new Error(`“${label}” cannot be played. ${answer.error}`);
    try {
      const bytes = answer.bytes ?? Uint8Array.from(atob(answer.wav), (character) => character.charCodeAt(0));
      return await new OfflineAudioContext(1, 1, CLIP_RATE).decodeAudioData(bytes.buffer);
    } catch {
      throw new Error(`“${label}” is not a sound that this browser can decode. Render it again, or use a current Chrome, Edge, Firefox or Safari.`);
    }
  }

  open() {
    if (!this.context) {
      this.context = new AudioContext({ sampleRate: CLIP_RATE, latencyHint: 'interactive' });
      this.context.onstatechange = () => this.show();
    }
    return this.context;
  }

  // ---- what a listener does ---------------------------------------------------------------------------------------------------------------------

  toggle() {
    this.change(() => {
      if (!this.engine.playing) this.play();
      else if (this.context.state === 'running') this.engine.pause();
      else this.context.resume(); // the browser or a phone call had stopped it
    });
  }

  play() {
    players.forEach((player) => player !== this && player.engine?.pause());
    this.engine.play();
  }

  choose(index, told = true) {
    this.change(() => {
      if (index === this.engine.chosen || !this.tracks[index]) return;
      this.engine.choose(index);
      if (told) this.trigger('chosen', { token: this.tracks[index].token });
    }, told);
  }

  loop({ on, from, to, moved }) {
    const region = this.engine.region.map((frame) => frame / this.engine.rate);
    if (moved === 'from') from = Math.min(from, region[1] - REGION_SECONDS);
    this.looping = on;
    this.engine.setLoop(on, from ?? region[0], to ?? region[1]);
  }

  setVolume(volume) {
    this.volume = volume;
    this.engine.setVolume(volume ** 2); // even steps for the ear
  }

  /* Does something to the engine, if there is one, and shows what became of it. */
  change(what, pressed = true) {
    if (!this.engine) return;
    if (pressed) this.used = performance.now();
    what();
    this.show();
  }

  told(what, detail) {
    if (what === 'heard') this.trigger('heard', { token: this.tracks[detail.index].token, seconds: detail.seconds });
    if (what !== 'state') return;
    this.show();
    clearTimeout(this.idle);
    if (!this.engine?.playing) this.idle = setTimeout(() => this.context?.suspend(), IDLE_MILLISECONDS);
  }

  show() {
    if (!this.engine) return;
    const label = this.tracks[this.engine.chosen].label;
    const sounding = this.context?.state === 'running' ? `playing ${label}` : 'waiting for the browser to open the sound: press play again if it stays silent';
    const resting = this.engine.cursor > 0 ? `${label}, paused` : `${label}, ready`;
    this.view.update(this.engine, this.engine.playing ? sounding : resting);
    if (this.engine.playing && !this.frame) this.frame = requestAnimationFrame(() => this.follow());
  }

  /* Once per frame of the screen while it plays. */
  follow() {
    this.frame = null;
    if (!this.element.isConnected) this.close();
    if (!this.engine?.playing) return;
    if (!this.rendered()) this.engine.pause(); // another tab of the page was opened: nothing sounds that cannot be stopped
    this.view.tick(this.engine);
    this.frame = requestAnimationFrame(() => this.follow());
  }

  /* The component has left the page. */
  close() {
    document.removeEventListener('keydown', this.onkey);
    players.delete(this);
    this.engine?.dispose();
    this.engine = null;
    setTimeout((context) => context?.close(), 200, this.context);
    this.context = null;
  }

  // ---- the keyboard -----------------------------------------------------------------------------------------------------------------------------

  rendered() {
    return this.element.getClientRects().length > 0 && getComputedStyle(this.element).visibility !== 'hidden';
  }

  /* In the window, or sounding while it is scrolled away. */
  present() {
    if (!this.engine || !this.rendered()) return false;
    const { top, bottom } = this.element.getBoundingClientRect();
    return this.engine.playing || (bottom > 0 && top < innerHeight);
  }

  key(event) {
    if (!this.element.isConnected) this.close();
    if (event.defaultPrevented || event.isComposing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const [answering] = [...players].filter((player) => player.present()).sort((one, other) => other.used - one.used);
    const place = event.composedPath()[0];
    if (answering !== this || this.typing(place)) return;
    const act = this.meaning(event, place);
    if (!act) return;
    event.preventDefault();
    act();
  }

  meaning(event, place) {
    const key = (event.key ?? '').toLowerCase(); // autofill sends keys without a name
    const digit = /^[1-9]$/.test(key) ? key : event.shiftKey ? '' : (/^(?:Digit|Numpad)([1-9])$/.exec(event.code) ?? [])[1];
    if (digit && this.tracks[digit - 1]) return () => this.choose(digit - 1);
    if (event.shiftKey) return null;
    const x = this.tracks.findIndex((track) => track.label === 'X');
    if (key === 'x' && x >= 0) return () => this.choose(x);
    if (key === 'l') return () => this.change(() => this.loop({ on: !this.engine.looping }));
    if (key === ' ' && !this.takesSpace(place)) return () => this.toggle();
    return null;
  }

  typing(place) {
    if (!(place instanceof Element)) return false;
    if (place.isContentEditable || place.closest('select, textarea, [role=textbox], [role=combobox], [role=listbox], [role=menu]')) return true;
    return place.matches('input:not([type=range], [type=button], [type=checkbox], [type=radio], [type=submit], [type=reset])');
  }

  /* Space presses what has the focus. Only the clip that is chosen already has nothing to be pressed for: there it plays and pauses. */
  takesSpace(place) {
    if (!(place instanceof Element)) return false;
    const pressable = place.closest('button, a[href], summary, [role=button], [role=tab], [role=switch], input:not([type=range])');
    return Boolean(pressable) && !(this.element.contains(pressable) && pressable.matches('.track[aria-pressed=true]'));
  }
}
