"""nbgrader's settings for this course: `nbgrader generate_assignment|autograde|generate_feedback|formgrader` run here.

`minirl grade` needs none of this. See the teaching guide of the book for the whole round.
"""

c = get_config()  # noqa: F821, nbgrader defines it

c.CourseDirectory.course_id = "minirl"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
c.CourseDirectory.solution_directory = "build/solution"  # nbgrader's own copy with the tests removed; we use none

c.ClearSolutions.code_stub = {"python": "# your code here\nraise NotImplementedError"}
c.ClearSolutions.text_stub = "your answer here"

# A cell that runs longer fails; a test cell that a student deleted comes back.
c.ExecutePreprocessor.timeout = 30
c.OverwriteCells.add_missing_cells = True
