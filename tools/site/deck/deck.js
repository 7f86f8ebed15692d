// Slides of 1280 by 800, scaled to the window; one that is fuller than that is made smaller until it fits.
function fit() {
  const slide = Reveal.getCurrentSlide();
  slide.style.zoom = 1;
  slide.style.zoom = Math.min(1, Reveal.getConfig().height / slide.scrollHeight);
}

Reveal.on("ready", fit);
Reveal.on("slidechanged", fit);
Reveal.initialize({ width: 1280, height: 800, margin: 0.05, center: false, hash: true, slideNumber: "c/t", transition: "none" });
