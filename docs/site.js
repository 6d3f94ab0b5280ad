// Wide tables, and code, scroll in boxes of the theme's making: by keyboard, too.
new MutationObserver(() => {
  const boxes = ".md-typeset__scrollwrap:not([tabindex]), .md-typeset pre > code:not([tabindex])";
  for (const box of document.querySelectorAll(boxes)) {
    box.tabIndex = 0;
  }
}).observe(document.documentElement, { childList: true, subtree: true });
