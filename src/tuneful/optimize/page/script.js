"use strict";
(() => {
  const buttons = [...document.querySelectorAll("[data-show]")];
  const find = document.getElementById("find");
  const pairs = [...document.querySelectorAll(".pair")];
  let kind = "all";
  const show = () => {
    const wanted = find.value.trim().toLowerCase();
    for (const pair of pairs) {
      const fits = kind === "all" || pair.dataset.kind === kind;
      pair.hidden = !fits || (wanted !== "" && !pair.textContent.toLowerCase().includes(wanted));
    }
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.show === kind));
  };
  for (const button of buttons) button.addEventListener("click", () => { kind = button.dataset.show; show(); });
  if (find) find.addEventListener("input", show);
})();
