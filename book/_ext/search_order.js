// How the search ranks what it found: chapters first, then the book's other pages, other
// runs of a chapter, the API last. A result also says which of these it is.
const PLACES = [
  ["studies/", 300, ""],
  ["runs/", 100, "run"],
  ["api/", 0, "API"],
];

var Scorer = {
  score: (result) => {
    const found = PLACES.find(([start]) => result[0].startsWith(start));
    const [start, rank, kind] = found ?? ["", 200, ""];
    const run = start === "runs/" ? ` ${result[0].split("/").pop()}` : "";
    const mark = kind && ` (${kind}${run})`;
    if (mark && !result[1].endsWith(mark)) result[1] += mark;
    return rank + Math.min(result[4], 99);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
