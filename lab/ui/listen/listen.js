/* The listener's page from welcome to thanks. What comes next is the server's to say: `state` is what it said last. */
class ListenPage {
  constructor(element, { props, server }) {
    this.words = props.words;
    this.root = element.querySelector('.listen');
    const find = (name) => this.root.querySelector(`.${name}`);
    this.parts = { top: find('top'), where: find('where'), done: find('done-of-test'), screen: find('screen'), hint: find('hint'), trouble: find('trouble'), actions: find('actions'), aloud: find('aloud') };
    this.memory = new Memory();
    const study = new URLSearchParams(location.search).get('s') ?? '';
    this.line = new Line(server, study);
    this.line.session = this.memory.get(`session:${study}`);
    this.trial = new Trial({ holder: find('player-holder'), form: find('question'), words: this.words, line: this.line, changed: () => this.changed() });
    this.busy = false;
    document.addEventListener('keydown', (event) => this.key(event), true);
    document.addEventListener('visibilitychange', () => document.hidden || this.lookAgain());
    document.title = this.words.title;
    this.open();
  }

  async open() {
    this.sheet('loading', this.words.loading);
    try {
      this.go(await this.line.ask('open'));
    } catch (error) {
      this.failed(error, () => this.open());
    }
  }

  /* Another tab may have gone on meanwhile. */
  async lookAgain() {
    if (this.busy || this.root.dataset.screen !== 'trial' || this.revising) return;
    try {
      const state = await this.line.ask('open');
      if (state.screen !== 'trial' || state.trial.number !== this.state.trial.number) this.go(state, this.words.elsewhere);
    } catch {
      // it will be noticed with the answer
    }
  }

  go(state, said = '') {
    this.state = state;
    this.revising = false;
    if (state.session) {
      this.line.session = state.session;
      this.memory.set(`session:${this.line.study}`, state.session);
    }
    if (state.screen === 'welcome') this.welcome();
    else if (state.screen === 'thanks') this.thanks();
    else if (state.screen === 'closed') this.sheet('closed', this.words.closed, [this.words.closed_text]);
    else if (state.started) this.ask(said);
    else this.headphones();
  }

  // ---- the frame of every screen ------------------------------------------------------------------------------------------------------------------

  /* A heading, paragraphs (texts or elements) and buttons; the focus goes to the heading, so that screen readers begin there. */
  sheet(name, title, content = [], actions = []) {
    this.root.dataset.screen = name;
    if (name !== 'trial' && name !== 'volume') this.trial.hide();
    const heading = make('h1', { tabindex: '-1' }, title);
    this.parts.screen.replaceChildren(heading, ...content.map((part) => (typeof part === 'string' ? make('p', {}, part) : part)));
    this.parts.actions.replaceChildren(...actions);
    this.parts.hint.hidden = true;
    this.parts.top.hidden = name !== 'trial';
    this.trouble('');
    scrollTo({ top: 0 });
    heading.focus({ preventScroll: true });
  }

  button(text, act, { quiet = false, key = '' } = {}) {
    const made = make('button', { type: 'button', class: quiet ? 'quiet' : 'strong', onclick: act }, text);
    if (key) made.append(make('kbd', { 'aria-hidden': 'true' }, key));
    return made;
  }

  trouble(text) {
    this.parts.trouble.hidden = !text;
    this.parts.trouble.textContent = text;
  }

  say(text) {
    if (this.parts.aloud.textContent !== text) this.parts.aloud.textContent = text;
  }

  failed(error, again) {
    const title = error.kind === 'unknown' ? this.words.unknown : this.words.trouble;
    const actions = error.kind === 'unknown' ? [] : [this.button(this.words.again, again)];
    this.sheet('failed', title, [error.message || this.words.unreachable], actions);
  }

  // ---- before the trials ----------------------------------------------------------------------------------------------------------------------------

  welcome() {
    const { type, minutes, trials } = this.state.study;
    const box = make('input', { type: 'checkbox', class: 'consent-box' });
    const consent = make('label', { class: 'consent' }, box, make('span', {}, this.words.consent));
    const kept = make('section', { class: 'kept' }, make('h2', {}, this.words.kept), make('p', {}, this.words.kept_text), consent);
    const begin = async () => {
      if (!box.checked) {
        this.trouble(this.words.consent_first);
        box.focus();
        return;
      }
      try {
        this.go(await this.line.ask('begin', { listener: this.memory.listener(), consent: true }));
      } catch (error) {
        this.trouble(error.message || this.words.unreachable);
      }
    };
    this.sheet('welcome', this.words.welcome, [this.words[`welcome_${type}`], fill(this.words.welcome_time, { minutes, trials }), this.words.welcome_place, kept], [this.button(this.words.start, begin, { key: '↵' })]);
  }

  note(kind, value) {
    this.line.ask('note', { kind, value }).catch(() => {}); // what is lost here is a remark, not an answer
  }

  headphones() {
    const skip = () => {
      this.note('headphones', { skipped: true });
      this.volume();
    };
    const begin = () => this.checkRound(new HeadphoneCheck());
    this.sheet('headphones', this.words.headphones, [this.words.headphones_text], [this.button(this.words.headphones_begin, begin, { key: '↵' }), this.button(this.words.headphones_skip, skip, { quiet: true })]);
  }

  checkRound(check) {
    if (check.over) {
      check.close();
      this.note('headphones', check.result);
      const said = check.result.passed ? this.words.headphones_passed : this.words.headphones_failed;
      this.sheet('headphones', this.words.headphones, [said], [this.button(this.words.next, () => this.volume(), { key: '↵' })]);
      return;
    }
    const tones = [0, 1, 2].map((place) => this.button(fill(this.words.headphones_tone, { number: place + 1 }), () => {
      if (!check.played) {
        this.trouble(this.words.headphones_first);
        return;
      }
      check.choose(place);
      this.checkRound(check);
    }, { quiet: true, key: String(place + 1) }));
    const row = make('div', { class: 'tones', role: 'group', 'aria-label': this.words.headphones_ask }, ...tones);
    const play = this.button(this.words.headphones_play, async () => {
      play.disabled = true;
      this.trouble('');
      await check.play((number) => {
        tones.forEach((tone, place) => tone.toggleAttribute('data-sounds', place + 1 === number));
        this.say(number ? fill(this.words.headphones_playing, { number }) : this.words.headphones_ask);
      });
      play.disabled = false;
      if (row.isConnected) tones[0].focus();
    }, { key: '↵' });
    const place = fill(this.words.headphones_round, { place: check.round + 1, of: CHECK_ROUNDS });
    const skip = () => {
      check.close();
      this.note('headphones', { skipped: true });
      this.volume();
    };
    this.sheet('headphones', this.words.headphones_ask, [place, row], [play, this.button(this.words.headphones_skip, skip, { quiet: true })]);
  }

  volume() {
    const done = () => {
      this.note('volume', { volume: Math.round(100 * this.trial.player.volume) / 100 });
      this.ask();
    };
    this.sheet('volume', this.words.volume, [this.words.volume_text], [this.button(this.words.volume_done, done, { key: '↵' })]);
    this.trial.show(this.state.trial, this.state.study.type, { only: true });
  }

  // ---- the trials ----------------------------------------------------------------------------------------------------------------------------------

  ask(said = '') {
    const { trial, study, before } = this.state;
    const shown = this.revising ? before : trial;
    const words = this.revising ? this.words.changing : trial.practice ? this.words.practice : study.type === 'staircase' ? this.words.trial_at_most : this.words.trial;
    this.comment = make('textarea', { rows: '2', maxlength: '1000', 'aria-label': this.words.comment_label });
    const comment = make('details', { class: 'comment' }, make('summary', {}, this.words.comment), this.comment);
    this.next = this.button(this.words.next, () => this.send(), { key: '↵' });
    this.next.classList.add('next');
    const back = () => {
      this.revising = !this.revising;
      this.ask();
    };
    const other = this.revising || before ? [this.button(this.revising ? this.words.keep : this.words.back, back, { quiet: true })] : [];
    const place = fill(words, { place: shown.place, of: shown.of });
    this.sheet('trial', place, said ? [said] : [], [this.next, ...other, comment]);
    this.parts.where.textContent = this.words.title;
    this.parts.done.style.width = `${shown.practice ? 0 : (100 * (shown.place - 1)) / shown.of}%`;
    this.parts.hint.hidden = false;
    this.trial.show(shown, study.type, { answer: this.revising ? shown.answer : null });
    this.changed();
  }

  changed() {
    if (this.root.dataset.screen !== 'trial' || this.busy) return;
    const missing = this.trial.missing();
    this.parts.hint.textContent = missing || this.words.ready;
    this.next.setAttribute('aria-disabled', String(Boolean(missing)));
  }

  async send() {
    if (this.busy) return;
    const missing = this.trial.missing();
    if (missing) {
      this.trouble(missing);
      return;
    }
    this.busy = true;
    this.next.setAttribute('aria-disabled', 'true');
    this.parts.hint.textContent = this.words.storing;
    this.trouble('');
    const answer = this.trial.answer(this.comment.value.trim(), this.revising);
    const wasPractice = !this.revising && this.state.trial.practice;
    if (this.trial.player.engine?.playing) this.trial.player.engine.pause();
    for (let wait = 1000; ; wait = Math.min(2 * wait, 15000)) {
      try {
        const { accepted, state, x } = await this.line.ask('rate', answer); // under its key it counts once, however often it is sent
        this.busy = false;
        this.go(state, this.remarks({ accepted, x, given: answer.answer, wasPractice, state }));
        return;
      } catch (error) {
        if (error.kind === 'unreachable' || error.kind === 'trouble') {
          this.trouble(this.words.not_stored);
          await new Promise((done) => setTimeout(done, wait));
          continue;
        }
        this.busy = false;
        this.trouble(error.message);
        this.changed();
        return;
      }
    }
  }

  remarks({ accepted, x, given, wasPractice, state }) {
    const said = [];
    if (x) said.push(fill(this.words.x_was, { label: x, verdict: x === given ? this.words.x_right : this.words.x_wrong }));
    if (wasPractice && state.trial && !state.trial.practice) said.push(this.words.practice_over);
    if (!accepted && !said.length && state.screen === 'trial') said.push(this.words.elsewhere);
    return said.join(' ');
  }

  thanks() {
    const { results, complete, final } = this.state;
    const content = [complete ? this.words.thanks_text : this.words.thanks_early];
    if (results.length) {
      content.push(make('section', { class: 'own' }, make('h2', {}, this.words.own), ...results.map((line) => make('p', {}, line))));
      if (!final) content.push(make('p', { class: 'more' }, this.words.own_later));
    }
    this.sheet('thanks', this.words.thanks, content);
  }

  // ---- the keyboard ---------------------------------------------------------------------------------------------------------------------------------

  /* Before the player sees a key: enter goes on, letters and digits choose answers where they mean one. */
  key(event) {
    if (event.defaultPrevented || event.isComposing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const place = event.composedPath()[0];
    const inPage = place instanceof Element;
    if (inPage && place.closest('textarea, select')) return;
    let done = false;
    if (event.key === 'Enter') {
      if (inPage && place.closest('button, summary, a[href]')) return;
      const first = this.parts.actions.querySelector('button.strong');
      if (first && !first.disabled) {
        first.click();
        done = true;
      }
    } else if (this.root.dataset.screen === 'trial' && this.trial.question) done = this.trial.question.key((event.key ?? '').toLowerCase());
    else if (this.root.dataset.screen === 'headphones' && /^[1-3]$/.test(event.key)) {
      const tone = this.parts.screen.querySelectorAll('.tones button')[event.key - 1];
      tone?.click();
      done = Boolean(tone);
    }
    if (done) {
      event.preventDefault();
      event.stopPropagation();
    }
  }
}

element.listenPage = new ListenPage(element, { props, server });
