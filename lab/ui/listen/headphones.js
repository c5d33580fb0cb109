/* The headphone check: which of three tones is the quietest, one of them in opposite phase on the two sides, which loudspeakers cancel and headphones do not.
 * After Woods, Siegel, Traer & McDermott, "Headphone screening to facilitate web-based auditory experiments", 2017: 200 Hz, one second each, the quiet one
 * 6 dB lower; six rounds, passed with five. It is offered and recorded, and decides nothing. */
const CHECK_ROUNDS = 6;
const CHECK_PASSED = 5;
const TONE_SECONDS = 1;
const PAUSE_SECONDS = 0.5;

const shuffled = (list) => {
  const made = [...list];
  for (let k = made.length - 1; k > 0; k -= 1) {
    const other = crypto.getRandomValues(new Uint32Array(1))[0] % (k + 1);
    [made[k], made[other]] = [made[other], made[k]];
  }
  return made;
};

/* One tone for both ears, (left, right): 200 Hz with ramps of 100 ms. kind: 'plain', 'quiet' (6 dB lower) or 'opposite' (right side inverted). */
const checkTone = (kind, rate) => {
  const length = Math.round(TONE_SECONDS * rate);
  const ramp = 0.1 * rate;
  const level = kind === 'quiet' ? 0.15 : 0.3;
  const left = Float32Array.from({ length }, (_, k) => {
    const edge = Math.min(1, k / ramp, (length - 1 - k) / ramp);
    return level * Math.sin((2 * Math.PI * 200 * k) / rate) * 0.5 * (1 - Math.cos(Math.PI * edge));
  });
  return [left, kind === 'opposite' ? left.map((sample) => -sample) : left];
};

class HeadphoneCheck {
  constructor() {
    this.right = 0;
    this.round = 0;
    this.context = null;
    this.deal();
  }

  deal() {
    this.tones = shuffled(['plain', 'quiet', 'opposite']);
    this.played = false;
  }

  get over() {
    return this.round >= CHECK_ROUNDS;
  }

  get result() {
    return { right: this.right, of: CHECK_ROUNDS, passed: this.right >= CHECK_PASSED };
  }

  /* Plays the three tones; calls `sounding(number)` with each, and with 0 at the end. */
  async play(sounding) {
    this.context ??= new AudioContext();
    await this.context.resume();
    const start = this.context.currentTime + 0.1;
    this.tones.forEach((kind, place) => {
      const buffer = this.context.createBuffer(2, Math.round(TONE_SECONDS * this.context.sampleRate), this.context.sampleRate);
      checkTone(kind, this.context.sampleRate).forEach((samples, side) => buffer.copyToChannel(samples, side));
      const source = this.context.createBufferSource();
      source.buffer = buffer;
      source.connect(this.context.destination);
      source.start(start + place * (TONE_SECONDS + PAUSE_SECONDS));
      setTimeout(() => sounding(place + 1), 1000 * (0.1 + place * (TONE_SECONDS + PAUSE_SECONDS)));
    });
    await new Promise((done) => setTimeout(done, 1000 * (0.1 + 3 * TONE_SECONDS + 2 * PAUSE_SECONDS)));
    this.played = true;
    sounding(0);
  }

  choose(place) {
    if (this.tones[place] === 'quiet') this.right += 1;
    this.round += 1;
    this.deal();
  }

  close() {
    this.context?.close();
    this.context = null;
  }
}
