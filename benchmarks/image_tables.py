"""Tables 1 and 2 as rate_distortion.py asks for them: the report's bottlenecks, reduced or not, CIFAR-10 as it is found."""
from tinyqae.bottleneck import KINDS
from tinyqae.reproduce import TABLES
from tinyqae.reproduce.rows import FULL, REDUCED


def of_report_bottlenecks(number):
    """A class for the table of that number."""
    class Table(type(TABLES[number])):
        def rows(self, recipe_name, reduced):
            """As in tinyqae.reproduce."""
            return [row for row in super().rows(recipe_name, REDUCED if reduced else FULL) if row.recipe.quant in KINDS]

        @staticmethod
        def load(data_dir):
            """As in tinyqae.reproduce."""
            return type(TABLES[number]).load(data_dir, True)

    return Table


Table1, Table2 = of_report_bottlenecks(1), of_report_bottlenecks(2)
