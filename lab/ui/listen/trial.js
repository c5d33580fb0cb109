/* One trial: its clips in the player, what has been heard of them, and the answer. */
class Trial {
  /* holder has the player in it, form takes the question; changed() is called whenever something that decides about Next may have changed. */
  constructor({ holder, form, words, line, changed }) {
    Object.assign(this, { holder, form, words, line, changed });
    this.shown = null;
    this.receipts = {};
    this.player = new Player(holder, {
      trigger: (what, detail) => this.told(what, detail),
      props: { value: '', loop: true },
      server: { clip: ({ token }) => this.clip(token) },
      watch: () => {},
    });
    this.form.addEventListener('change', () => this.changed());
    this.form.addEventListener('submit', (event) => event.preventDefault());
    setInterval(() => this.player.engine?.playing && this.changed(), 200);
  }

  async clip(token) {
    try {
      const { bytes, receipt } = await this.line.clip(token);
      this.receipts[token] = receipt;
      return { bytes };
    } catch (error) {
      return { error: error.message || this.words.unreachable };
    }
  }

  /* Shows `trial` as the server describes it; `answer` is one that was given before. `only` makes of it a player with its first clip alone. */
  show(trial, type, { answer = null, only = false } = {}) {
    const tracks = (only ? trial.tracks.slice(0, 1) : trial.tracks).map(({ token, label }) => ({ token, label: only ? this.words.clip : this.name(label), note: '' }));
    if (this.player.engine?.playing) this.player.engine.pause();
    this.shown = trial;
    this.key = randomName();
    this.receipts = Object.fromEntries(trial.tracks.map(({ token }) => [token, this.receipts[token]]));
    this.holder.hidden = false;
    this.form.hidden = only;
    this.holder.toggleAttribute('data-many', tracks.length > 4);
    this.question = only ? null : buildQuestion(this.form, this.words, type, trial.tracks.map(({ label }) => label), (label) => this.choose(label));
    this.question?.set(answer);
    this.player.load(JSON.stringify({ version: randomName(), tracks, chosen: tracks[0].token })).then(() => {
      this.chose();
      this.changed();
    });
    if (this.player.engine) this.player.engine.heard.fill(0);
    this.chose();
  }

  /* What a label is called on the page: a clip that stands alone needs no number. */
  name(label) {
    return label === '1' ? this.words.clip : label;
  }

  choose(label) {
    this.player.choose(this.shown.tracks.findIndex((track) => track.label === label));
  }

  hide() {
    this.player.engine?.playing && this.player.engine.pause();
    this.holder.hidden = true;
    this.form.hidden = true;
    this.question = null;
  }

  told(what) {
    if (what === 'chosen') this.chose();
    this.changed();
  }

  chose() {
    const engine = this.player.engine;
    if (engine && this.question) this.question.chose(this.shown.tracks[engine.chosen].label);
  }

  /* Seconds that each label has sounded. */
  heard() {
    const engine = this.player.engine;
    engine?.account();
    return Object.fromEntries(this.shown.tracks.map(({ label }, index) => [label, engine ? engine.heard[index] / engine.rate : 0]));
  }

  /* What is still to be done before the answer can be given, in words; '' when nothing is. */
  missing() {
    const heard = this.heard();
    const labels = this.shown.tracks.map(({ label }) => label).filter((label) => heard[label] < this.shown.needed[label]);
    if (labels.length) return fill(this.words.to_hear, { labels: labels.map((label) => this.name(label)).join(', ') });
    return this.question.missing;
  }

  answer(comment, revise) {
    const receipts = Object.fromEntries(this.shown.tracks.map(({ label, token }) => [label, this.receipts[token]]));
    return { trial: this.shown.number, key: this.key, answer: this.question.value, heard: this.heard(), receipts, comment, revise };
  }
}
