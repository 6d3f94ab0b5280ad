// Wide tables scroll in a box of the theme's making: by keyboard, too.
new MutationObserver(() => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    box.tabIndex = 0;
  }
}).observe(document.documentElement, { childList: true, subtree: true });
