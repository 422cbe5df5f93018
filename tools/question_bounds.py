"""Print the bounds that a file of questions sets for its columns, in the format of stage_2_filter_data.sh: column, minimum, maximum (none: no bound).

python -m tools.question_bounds overlays
"""

from utils.captioning.question_sets import read_questions
from utils.cli import about, run, script_parser


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("questions", help="a file of questions, or the name of a set in prompts/questions")
    args = parser.parse_args()
    with about("questions"):
        questions = read_questions(args.questions)
    numbers = {
        one.column: one.passes for one in questions if not one.choices
    }  # words have no bounds, and are for --where
    for column, passes in (
        numbers or {"sample_frame_idx": (None, None)}
    ).items():  # no bound: the filter adds the file's columns
        print(column, *("none" if bound is None else f"{bound:g}" for bound in passes))


if __name__ == "__main__":
    run(main)
