(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Without this script every part of the gallery is shown, one below the other.
  const list = document.querySelector('[role="tablist"]');
  if (list) {
    const tabs = all('[role="tab"]', list);
    const show = (tab, focus) => {
      for (const other of tabs) {
        const on = other === tab;
        other.setAttribute("aria-selected", String(on));
        other.tabIndex = on ? 0 : -1;
        document.getElementById(other.getAttribute("aria-controls")).hidden = !on;
      }
      if (focus) tab.focus();
      clampTexts();
    };
    for (const tab of tabs) {
      const part = document.getElementById(tab.getAttribute("aria-controls"));
      part.setAttribute("role", "tabpanel");
      part.querySelector("h3").hidden = true;
      tab.addEventListener("click", () => show(tab, false));
    }
    list.addEventListener("keydown", (event) => {
      const now = tabs.indexOf(document.activeElement);
      const next = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (now < 0 || next === undefined) return;
      event.preventDefault();
      show(tabs[(next + tabs.length) % tabs.length], true);
    });
    list.hidden = false;
    show(tabs[0], false);
  }

  // Long texts are clamped by the stylesheet; those that are cut get a button.
  function clampTexts() {
    for (const text of all(".text:not([data-clamped])")) {
      if (!text.clientHeight) continue;
      text.dataset.clamped = "";
      if (text.scrollHeight <= text.clientHeight + 2) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "more";
      button.textContent = "Show all";
      button.setAttribute("aria-expanded", "false");
      button.addEventListener("click", () => {
        const open = text.classList.toggle("open");
        button.textContent = open ? "Show less" : "Show all";
        button.setAttribute("aria-expanded", String(open));
      });
      text.after(button);
    }
  }
  clampTexts();
  for (const details of all("details")) details.addEventListener("toggle", clampTexts);

  const viewer = document.getElementById("viewer");
  if (viewer && viewer.showModal) {
    const large = viewer.querySelector("img");
    let current = null;
    const open = (button) => {
      current = button;
      const small = button.querySelector("img");
      large.src = small.src;
      large.alt = small.alt;
      large.className = small.className;
      viewer.querySelector(".viewer-text").textContent =
        button.closest(".card").querySelector(".text").textContent;
      viewer.querySelector(".viewer-facts").textContent = button.dataset.facts;
      if (!viewer.open) viewer.showModal();
    };
    for (const button of all(".enlarge")) button.addEventListener("click", () => open(button));
    viewer.addEventListener("click", (event) => {
      if (event.target === viewer) viewer.close();
    });
    viewer.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step || !current) return;
      const shown = all(".enlarge", current.closest(".part"));
      open(shown[(shown.indexOf(current) + step + shown.length) % shown.length]);
    });
  }

  for (const button of all(".copy")) {
    const source = document.getElementById(button.dataset.copies);
    button.hidden = false;
    button.addEventListener("click", async () => {
      const range = document.createRange();
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      let done = false;
      try {
        await navigator.clipboard.writeText(source.textContent);
        done = true;
      } catch {
        done = document.execCommand("copy");
      }
      button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
})();
