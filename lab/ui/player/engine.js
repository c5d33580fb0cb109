/* The sound of the player: several clips, one clock, one of them heard.
 *
 *   source of clip 1 -> gain of clip 1 \
 *   source of clip 2 -> gain of clip 2  > transport gain -> volume -> loudspeaker
 *   source of clip 3 -> gain of clip 3 /
 *
 * All sources start at one frame and run together; a switch only moves the gains of two clips. The transport gain is the one shared fade of play,
 * pause, seek and loop point, so these sound alike for every clip. A loop point is a new set of sources (a deck) that starts after the shared fade
 * of the old one: the loop of a source node would splice hard, and differently for each clip.
 *
 * Every time is a whole number of frames of the context's clock; a command that comes during a fade waits for its end (see fader.js).
 *
 * The engine knows no page and no Gradio. Built on an OfflineAudioContext it renders exactly what a listener hears. */
const CLIP_RATE = 24000;
const LEAD_SECONDS = 0.02; // between reading the clock and the first frame that a command touches
const AHEAD_SECONDS = 1.2; // how far loops are scheduled ahead: timers of a page in the background tick once a second
const REGION_SECONDS = 0.2; // the shortest loop

class SyncEngine {
  /* clips: AudioBuffers; open: gives the context, called at the first play; tell(what, detail): 'state', 'heard' or 'ended' has happened. */
  constructor({ clips, open, rate = CLIP_RATE, lead = LEAD_SECONDS, tell = () => {} }) {
    Object.assign(this, { clips, open, rate, tell });
    this.leadFrames = Math.round(lead * rate);
    this.fadeFrames = Math.round(FADE_SECONDS * rate);
    this.lengths = clips.map((clip) => clip.length);
    this.total = Math.max(0, ...this.lengths);
    this.context = null;
    this.volume = 1;
    this.chosen = 0;
    this.playing = false;
    this.looping = false;
    this.region = [0, this.total];
    this.cursor = 0; // the position while nothing plays
    this.decks = []; // the sounding set of sources, then those of the loops ahead
    this.swap = null; // the last switch on the timeline
    this.heard = clips.map(() => 0); // frames that sounded, per clip
    this.told = clips.map(() => 0);
    this.mark = 0; // `heard` is complete up to this frame of the clock
    this.timer = null;
  }

  get duration() {
    return this.total / this.rate;
  }

  now() {
    return this.context ? Math.round(this.context.currentTime * this.rate) : 0;
  }

  soon() {
    return this.now() + this.leadFrames;
  }

  position() {
    return (this.playing ? this.positionAt(this.now()) : this.cursor) / this.rate;
  }

  positionAt(frame) {
    const deck = this.deckAt(frame);
    return Math.min(deck.stop, Math.max(deck.offset, deck.offset + frame - deck.start));
  }

  deckAt(frame) {
    return this.decks.reduce((found, deck) => (deck.start <= frame ? deck : found), this.decks[0]);
  }

  play() {
    if (this.playing || !this.total) return;
    this.build();
    if (this.cursor > this.total - 4 * this.fadeFrames) this.cursor = 0;
    const start = Math.max(this.soon(), this.transport.free, this.swap ? this.swap.frame + 2 * this.fadeFrames : 0);
    this.playing = true;
    this.decks = [this.begin(start, this.cursor)];
    this.mark = this.decks[0].start;
    this.fill();
    if (!(this.context instanceof OfflineAudioContext)) this.timer = setInterval(() => this.tick(), 50);
    this.tell('state');
  }

  pause() {
    if (!this.playing) return;
    this.tick();
    if (!this.playing) return; // it had just ended
    const at = this.soon();
    const position = this.positionAt(at);
    this.account();
    this.hush(at);
    this.rest(position >= this.total ? 0 : position);
    this.tell('state');
  }

  seek(seconds) {
    const offset = Math.min(this.total, Math.max(0, Math.round(seconds * this.rate) || 0));
    this.cursor = offset;
    if (!this.playing) return;
    this.account();
    const start = this.hush(this.soon()) + 1;
    this.decks = [this.begin(start, offset)];
    this.mark = Math.max(this.mark, this.decks[0].start);
    this.fill();
  }

  /* Makes another clip the one that is heard, at the same position: 5 ms out, then 5 ms in. */
  choose(to) {
    if (!(to in this.clips) || to === this.chosen) return;
    this.account();
    this.report();
    let from = this.chosen;
    this.chosen = to;
    if (!this.context) return;
    const at = this.soon();
    if (this.swap && this.swap.frame >= at) {
      // The switch before this one has not begun: it is replaced.
      this.gains[this.swap.from].drop(this.swap.frame);
      this.gains[this.swap.to].drop(this.swap.frame + this.fadeFrames);
      from = this.swap.from;
      this.swap = null;
    }
    if (from === to) return;
    const frame = Math.max(at, this.gains[from].free, this.gains[to].free - this.fadeFrames);
    this.gains[from].fade(0, frame);
    this.gains[to].fade(1, frame + this.fadeFrames);
    this.swap = { frame, from, to };
  }

  /* Loops the part between two times (all of it without them), or stops looping. */
  setLoop(on, from = 0, to = this.duration) {
    const shortest = Math.min(this.total, Math.round(REGION_SECONDS * this.rate));
    const first = Math.min(Math.max(0, Math.round(from * this.rate) || 0), this.total - shortest);
    const last = Math.max(Math.min(this.total, Math.round(to * this.rate) || 0), first + shortest);
    this.looping = on;
    this.region = [first, last];
    const position = this.playing ? this.positionAt(this.soon()) : this.cursor;
    if (on && (position < first || position > last)) this.seek(first / this.rate);
    else if (this.playing) this.replan();
  }

  setVolume(volume) {
    if (this.context) this.output.gain.setTargetAtTime(volume, this.context.currentTime, 0.01);
    this.account();
    this.volume = volume;
  }

  /* Silences the engine for good; the context belongs to whoever opened it. */
  dispose() {
    this.account();
    if (this.playing) this.hush(this.soon());
    this.rest(0);
    this.silence?.stop(this.context.currentTime + 0.1);
    if (this.output) setTimeout((output) => output.disconnect(), 200, this.output);
  }

  /* To be called now and then while it plays: schedules the loops ahead, notices the end. */
  tick() {
    this.account();
    if (!this.playing) return;
    while (this.decks.length > 1 && this.decks[1].start <= this.now()) {
      this.decks.shift();
      this.report();
    }
    this.fill();
    if (this.decks.length > 1 || this.now() < this.decks[0].end) return;
    this.rest(0);
    this.tell('ended');
    this.tell('state');
  }

  // ---- the timeline ---------------------------------------------------------------------------------------------------------------------------

  build() {
    if (!this.context) {
      this.context = this.open();
      this.output = this.context.createGain();
      this.output.gain.value = this.volume;
      this.output.connect(this.context.destination);
      this.bus = this.context.createGain();
      this.bus.connect(this.output);
      this.transport = new Fader(this.bus, this.rate, 0);
      this.inputs = this.clips.map(() => this.context.createGain());
      this.inputs.forEach((input) => input.connect(this.bus));
      // Browsers do not work out the gain of a node that nothing feeds, and take a fade up again where they left it: a silent source feeds all.
      this.silence = this.context.createConstantSource();
      this.silence.offset.value = 0;
      this.inputs.forEach((input) => this.silence.connect(input));
      this.silence.start();
      this.gains = this.inputs.map((input, index) => new Fader(input, this.rate, index === this.chosen ? 1 : 0));
    }
    if (this.context.state !== 'running' && !(this.context instanceof OfflineAudioContext)) this.context.resume().catch(() => {});
  }

  /* Starts every clip at one frame of the clock, `offset` frames into it, with the shared fade at both ends. Where that frame went by before the last clip
   * was told (a page that stood still), some would start late and out of step: then all start anew, a little later; `deck.start` says when. */
  begin(start, offset) {
    const from = Math.max(0, Math.min(offset, this.total - 3 * this.fadeFrames));
    let sources = this.sources(start, from);
    for (let tries = 0; this.now() > start && tries < 5; tries += 1) {
      this.withdraw({ sources });
      start = this.soon();
      sources = this.sources(start, from);
    }
    const deck = { start, offset: from, sources };
    this.transport.fade(1, start);
    this.close(deck, from);
    return deck;
  }

  sources(start, from) {
    return this.clips.map((clip, index) => {
      const source = this.context.createBufferSource();
      source.buffer = clip;
      source.connect(this.inputs[index]);
      source.onended = () => source.disconnect();
      source.start(start / this.rate, from / this.rate);
      return source;
    });
  }

  /* Plans the end of a deck: that of the loop if the position is before it, otherwise that of the longest clip. */
  close(deck, position) {
    deck.stop = this.looping && position < this.region[1] - 3 * this.fadeFrames ? this.region[1] : this.total;
    deck.end = Math.max(deck.start + deck.stop - deck.offset, this.transport.free + this.fadeFrames);
    this.transport.fade(0, deck.end - this.fadeFrames);
    deck.sources.forEach((source) => source.stop(deck.end / this.rate));
  }

  /* Schedules what follows the last deck as far ahead as needed. */
  fill() {
    for (;;) {
      const last = this.decks[this.decks.length - 1];
      const follows = this.looping || last.stop < this.total;
      if (!follows || last.end > this.now() + AHEAD_SECONDS * this.rate) return;
      this.decks.push(this.begin(Math.max(last.end + 1, this.soon()), this.looping ? this.region[0] : last.stop));
    }
  }

  /* The loop has changed: plans the end of the sounding deck again, unless its last fade is about to begin, and what follows it. */
  replan() {
    const at = this.soon();
    const deck = this.deckAt(at);
    const fadeOut = deck.end - this.fadeFrames;
    const later = this.decks.slice(this.decks.indexOf(deck) + 1);
    later.forEach((next) => this.withdraw(next));
    this.decks = this.decks.filter((kept) => !later.includes(kept));
    this.transport.drop(fadeOut >= at ? fadeOut : deck.end + 1);
    if (fadeOut >= at) this.close(deck, this.positionAt(at));
    this.fill();
  }

  /* Fades everything out at `at`; returns the frame from which all is silent. */
  hush(at) {
    this.transport.drop(at);
    const silent = this.transport.fade(0, at);
    this.decks.forEach((deck) => {
      if (deck.start >= at) this.withdraw(deck);
      else deck.sources.forEach((source) => source.stop(Math.min(silent, deck.end) / this.rate));
    });
    return silent;
  }

  /* Removes a deck that has not begun. */
  withdraw(deck) {
    deck.sources.forEach((source) => {
      source.onended = null;
      source.stop();
      source.disconnect();
    });
  }

  rest(cursor) {
    this.cursor = cursor;
    this.playing = false;
    this.decks = [];
    clearInterval(this.timer);
    this.report();
  }

  /* Counts what has sounded since the last call. */
  account() {
    const now = this.now();
    const length = this.lengths[this.chosen];
    for (const deck of this.decks) {
      const first = Math.min(length, deck.offset + Math.max(this.mark, deck.start) - deck.start);
      const last = Math.min(length, deck.offset + Math.min(now, deck.end) - deck.start);
      if (last > first && this.volume > 0) this.heard[this.chosen] += last - first;
    }
    this.mark = Math.max(this.mark, now);
  }

  /* Tells how long the chosen clip has been heard in all, if it has grown. */
  report() {
    const index = this.chosen;
    if (this.heard[index] <= this.told[index]) return;
    this.told[index] = this.heard[index];
    this.tell('heard', { index, seconds: this.heard[index] / this.rate });
  }
}
