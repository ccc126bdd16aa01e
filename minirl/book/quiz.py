"""`quiz`: concept checks through jupyterquiz, written as plain pairs."""

from jupyterquiz import display_quiz


def quiz(*questions):
    """Show questions one below the other; they work in the static page as well, without a network.

    Each question is a pair (text, {answer: feedback}). The first answer is the right one; the order on the page is drawn
    anew at each visit. Answers that are numbers make a question with an input field; there the key None holds the
    feedback for any other number. ValueError when a question has fewer than two answers or lacks feedback.
    """
    display_quiz([question(text, answers) for text, answers in questions], shuffle_answers=True)


def question(text, answers):
    """One question in jupyterquiz's form."""
    if len(answers) < 2 or not all(isinstance(f, str) and f.strip() for f in answers.values()):
        raise ValueError(f"the question {text[:40]!r} needs at least two answers, each with its feedback")
    right = next(iter(answers))
    if isinstance(right, str):
        options = [{"answer": a, "correct": a == right, "feedback": f} for a, f in answers.items()]
        return {"question": text, "type": "multiple_choice", "answers": options}
    options = [
        {"type": "default", "feedback": f}
        if a is None
        else {"type": "value", "value": a, "correct": a == right, "feedback": f}
        for a, f in answers.items()
    ]
    return {"question": text, "type": "numeric", "answers": options}
