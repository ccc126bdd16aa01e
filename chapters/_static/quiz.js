// jupyterquiz draws a label above the field of a numeric question but does not tie the two together.
document.addEventListener("DOMContentLoaded", function () {
  document.querySelectorAll(".Quiz .InpLabel + input").forEach(function (input) {
    input.previousElementSibling.htmlFor = input.id;
  });
});
