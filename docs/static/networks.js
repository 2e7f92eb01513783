// A search box above the table of networks. Without JavaScript the page shows the whole table.
"use strict";

const table = document.querySelector("div.networks table");
const rows = [...table.tBodies[0].rows];
const texts = rows.map((row) => row.textContent.toLowerCase());

const label = document.createElement("label");
const box = document.createElement("input");
const count = document.createElement("output");
box.type = "search";
box.placeholder = "resnet, or vit timm";
label.append("Search: ", box);

const search = document.createElement("p");
search.className = "search";
search.append(label, " ", count);
document.querySelector("div.networks").prepend(search);

function filter() {
  const words = box.value.toLowerCase().split(/\s+/);
  let shown = 0;
  rows.forEach((row, index) => {
    row.hidden = !words.every((word) => texts[index].includes(word));
    shown += row.hidden ? 0 : 1;
  });
  count.textContent = `${shown} of ${rows.length} networks`;
}

box.addEventListener("input", filter);
filter();
