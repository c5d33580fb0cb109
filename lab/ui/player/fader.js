/* One gain and all that is planned for it: raised-cosine fades between 0 and 1 that never overlap.
 *
 * A fade that may have begun is never taken back: what comes during it waits for its end. So no automation is cut short, which is the click that
 * cancelAndHoldAtTime (missing in Firefox) exists to prevent. Times are whole frames of the context's clock. */
const FADE_SECONDS = 0.005;

class Fader {
  constructor(node, rate, value) {
    this.param = node.gain;
    this.param.value = value;
    this.rate = rate;
    this.fadeFrames = Math.round(FADE_SECONDS * rate);
    const curve = (sign) =>
      Float32Array.from({ length: this.fadeFrames + 1 }, (_, k) => (1 + sign * Math.cos((Math.PI * k) / this.fadeFrames)) / 2);
    this.curves = [curve(1), curve(-1)]; // the fall to 0, the rise to 1
    this.rest = value;
    this.plan = [];
  }

  /* The first frame at which a new fade may begin. */
  get free() {
    return this.plan.length ? this.plan[this.plan.length - 1].frame + this.fadeFrames + 1 : 0;
  }

  /* Fades to 0 or 1 at `frame`, or as soon after it as the gain is free; returns the frame at which the fade is complete. */
  fade(to, frame) {
    const last = this.plan[this.plan.length - 1];
    if (to === (last ? last.to : this.rest)) return Math.max(frame, this.free - 1);
    const start = Math.max(frame, this.free);
    try {
      this.param.setValueCurveAtTime(this.curves[to], start / this.rate, this.fadeFrames / this.rate);
    } catch {
      // The page was frozen between reading the clock and here: the browser moved a fade from the past to now, and two would overlap.
      this.param.cancelScheduledValues(0);
      this.param.setTargetAtTime(to, 0, FADE_SECONDS / 3);
    }
    if (this.plan.length > 64) this.plan.splice(0, 32);
    this.plan.push({ frame: start, to });
    return start + this.fadeFrames;
  }

  /* Takes back the fades that begin at `frame` or later; the caller knows that none of them has begun. */
  drop(frame) {
    const kept = this.plan.filter((fade) => fade.frame < frame);
    if (kept.length === this.plan.length) return;
    this.param.cancelScheduledValues((this.plan[kept.length].frame - 0.5) / this.rate);
    this.plan = kept;
  }
}
