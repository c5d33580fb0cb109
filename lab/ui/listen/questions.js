/* The answers that can be given, one kind of form for each type of test. A form has `value` (null until it is complete), `set`, `missing` and `chose`. */

/* Answers of which one is chosen: real radio buttons, so that arrows and screen readers work as everywhere; `keys` are letters or digits that choose, too. */
class Choice {
  constructor(form, words, { question, options, row }) {
    this.options = options;
    this.words = words;
    const name = randomName();
    this.inputs = options.map(({ value, text, key }) => {
      const input = make('input', { type: 'radio', name, value: String(value) });
      const label = make('label', { class: 'option' }, input, make('span', { class: 'option-text' }, text));
      if (key) label.append(make('kbd', { 'aria-hidden': 'true' }, key));
      return { input, label };
    });
    const legend = make('legend', {}, question);
    form.replaceChildren(make('fieldset', { class: row ? 'options in-a-row' : 'options' }, legend, ...this.inputs.map(({ label }) => label)));
  }

  get value() {
    const found = this.inputs.findIndex(({ input }) => input.checked);
    return found < 0 ? null : this.options[found].value;
  }

  set(value) {
    this.inputs.forEach(({ input }, place) => (input.checked = this.options[place].value === value));
  }

  get missing() {
    return this.value === null ? this.words.to_answer : '';
  }

  chose() {}

  /* Answers to a key; true if it was one of ours. */
  key(key) {
    const found = this.options.findIndex((option) => option.key === key);
    if (found < 0) return false;
    this.inputs[found].input.checked = true;
    this.inputs[found].input.focus();
    this.inputs[found].input.dispatchEvent(new Event('change', { bubbles: true }));
    return true;
  }
}

/* A slider for each clip but the reference; only that of the sounding clip can be moved. */
class Sliders {
  constructor(form, words, labels, choose) {
    this.words = words;
    this.rows = labels.map((label) => {
      const input = make('input', { type: 'range', min: '0', max: '100', step: '1', value: '50', disabled: true, 'aria-label': fill(words.rate_clip, { label }) });
      const shown = make('output', {}, words.not_rated);
      const name = make('button', { type: 'button', class: 'slider-name', 'aria-label': fill(words.choose_clip, { label }), onclick: () => choose(label) }, label);
      const row = { label, input, shown, touched: false, element: make('div', { class: 'slider' }, name, input, shown) };
      for (const event of ['input', 'pointerdown']) input.addEventListener(event, () => this.touch(row));
      input.addEventListener('keydown', (event) => {
        if (event.key === 'Enter') return;
        if (!/^(?:Arrow|Page|Home|End)/.test(event.key)) return;
        event.stopPropagation(); // the arrows are this slider's
        queueMicrotask(() => this.touch(row));
      });
      return row;
    });
    const scale = make('div', { class: 'scale', 'aria-hidden': 'true' }, ...words.scale.split(', ').map((word) => make('span', {}, word)));
    form.replaceChildren(
      make('fieldset', { class: 'sliders' }, make('legend', {}, words.ask_mushra), make('p', { class: 'more' }, words.ask_mushra_more), scale, ...this.rows.map((row) => row.element)),
    );
  }

  touch(row) {
    if (row.input.disabled) return;
    row.touched = true;
    this.show(row);
    row.input.dispatchEvent(new Event('change', { bubbles: true }));
  }

  show(row) {
    row.shown.textContent = row.touched ? row.input.value : this.words.not_rated;
    row.input.setAttribute('aria-valuetext', row.touched ? fill(this.words.points, { value: row.input.value }) : this.words.not_rated);
  }

  get value() {
    if (this.rows.some((row) => !row.touched)) return null;
    return Object.fromEntries(this.rows.map((row) => [row.label, row.input.valueAsNumber]));
  }

  set(value) {
    for (const row of this.rows) {
      row.touched = value !== null;
      if (value) row.input.value = String(value[row.label]);
      this.show(row);
    }
  }

  get missing() {
    const labels = this.rows.filter((row) => !row.touched).map((row) => row.label);
    return labels.length ? fill(this.words.to_rate, { labels: labels.join(', ') }) : '';
  }

  /* The clip under that label is the chosen one now. The focus goes with it, from slider to slider. */
  chose(label) {
    const moves = this.rows.some((row) => row.input === document.activeElement);
    for (const row of this.rows) {
      row.input.disabled = row.label !== label;
      row.element.toggleAttribute('data-chosen', row.label === label);
      if (moves && row.label === label) row.input.focus();
    }
  }

  key() {
    return false;
  }
}

const buildQuestion = (form, words, type, labels, choose) => {
  const option = (value, name, key) => ({ value, text: words[name], key });
  if (type === 'mushra') return new Sliders(form, words, labels.filter((label) => label !== 'Reference'), choose);
  if (type === 'ab') {
    return new Choice(form, words, { question: words.ask_ab, row: true, options: [option('A', 'ab_A', 'a'), option('none', 'ab_none', 'n'), option('B', 'ab_B', 'b')] });
  }
  if (type === 'acr') {
    return new Choice(form, words, { question: words.ask_acr, options: [5, 4, 3, 2, 1].map((score) => option(score, `acr_${score}`, String(score))) });
  }
  if (type === 'ccr') {
    return new Choice(form, words, { question: words.ask_ccr, options: [3, 2, 1, 0, -1, -2, -3].map((score) => option(score, `ccr_${score}`)) });
  }
  return new Choice(form, words, { question: words[`ask_${type}`], row: true, options: [option('A', 'abx_A', 'a'), option('B', 'abx_B', 'b')] });
};
