"""Concept checks: the right answer is the first, and every answer has its feedback."""

import re
import sys

import pytest

from minirl.book.quiz import question, quiz


def test_the_first_answer_is_the_right_one():
    made = question("Which?", {"this": "Right.", "that": "No.", "other": "No."})
    assert made["type"] == "multiple_choice"
    assert [(a["answer"], a["correct"]) for a in made["answers"]] == [("this", True), ("that", False), ("other", False)]


def test_numbers_make_an_input_field_with_a_default():
    made = question("How many?", {4: "Right.", 3: "Add one.", None: "Look at (9)."})
    assert made["type"] == "numeric"
    assert made["answers"][0] == {"type": "value", "value": 4, "correct": True, "feedback": "Right."}
    assert made["answers"][1]["correct"] is False
    assert made["answers"][2] == {"type": "default", "feedback": "Look at (9)."}


@pytest.mark.parametrize("answers", [{"only": "one"}, {"a": "Right.", "b": ""}, {"a": "Right.", "b": None}])
def test_a_question_without_choice_or_feedback_is_refused(answers):
    with pytest.raises(ValueError, match="feedback"):
        question("What?", answers)


def test_the_page_carries_the_questions_and_asks_no_network(monkeypatch):
    shown = []
    monkeypatch.setattr(sys.modules["jupyterquiz.dynamic.display"], "display", shown.append)
    quiz(("Which of the two?", {"this": "Right, because.", "that": "No, since."}))
    page = " ".join(output.data for output in shown)
    for word in ("Which of the two?", "Right, because.", "No, since."):
        assert word in page
    assert not re.search(r"(src|href)=.?https?:|fetch\(.https?:", page)
