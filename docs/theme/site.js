// A table that is wider than the page can be scrolled with the keyboard, and what the theme leaves
// without a name gets one for screen readers.
document.addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, pre > code")) box.tabIndex = 0;
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  for (const box of document.querySelectorAll(".md-toggle"))
    box.setAttribute("aria-label", box.dataset.mdToggle === "search" ? "Show the search" : "Show the navigation");
});
