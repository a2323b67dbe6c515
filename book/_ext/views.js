// Draws the views of a page (`robustbook.plots.interactive`) where their static figures
// stand, when they come near the window.
const room = (figure) => figure.clientWidth;

const drawn = async (live, spec) => {
  const { view } = await vegaEmbed(live, spec, {
    actions: false,
    defaultStyle: false,
    renderer: "svg",
  });
  return view;
};

const draw = async (place) => {
  const spec = JSON.parse(place.querySelector("script").textContent);
  const figure = place.querySelector("figure");
  const still = figure.querySelector("svg, img");
  const live = document.createElement("div");
  live.className = "pm-live";
  still.before(live);
  try {
    await drawn(live, spec);
    const width = live.querySelector("svg")?.width.baseVal.value ?? 0;
    if (spec.hconcat && width > room(figure)) {
      const { hconcat, ...rest } = spec;
      await drawn(live, { ...rest, vconcat: hconcat });
    }
    still.remove();
  } catch (error) {
    live.remove();
    console.warn(`the view ${place.id} stays a picture:`, error);
  }
};

const near = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      draw(target);
    }
  },
  { rootMargin: "800px" },
);
document.querySelectorAll(".pm-view").forEach((place) => near.observe(place));
