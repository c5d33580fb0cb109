/* Puts the player into the component that Gradio has made, and says what a page's own scripts may do with it. */
const player = new Player(element, { trigger, props, server, watch });
element.syncPlayer = {
  position: () => player.engine?.position() ?? 0,
  choose: (track) => player.choose(typeof track === 'number' ? track : player.tracks.findIndex(({ token }) => token === track)),
  play: () => player.change(() => player.play()),
  pause: () => player.change(() => player.engine.pause()),
  seek: (seconds) => player.change(() => player.engine.seek(seconds)),
  trackLength: (index) => (player.engine ? player.engine.lengths[index] / player.engine.rate : 0),
  get playing() { return player.engine?.playing ?? false; },
  get chosen() { return player.engine ? player.tracks[player.engine.chosen].token : null; },
  get duration() { return player.engine?.duration ?? 0; },
  get tracks() { return player.tracks.length; },
  get engine() { return player.engine; },
};
