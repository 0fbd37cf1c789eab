"""The declared tables as BigQuery knows them, for Terraform: ``python -m services.ops.warehouse_schema``.

Terraform makes the stable table of each declared table with these columns, and cannot read tables.yaml itself: its tree
is planned and checked by itself.
"""

import json
import sys
from pathlib import Path

from services.core.tables import EXTRACTED_AT, Tables, load_tables


def declared_tables(tables: Tables) -> str:
    """The tables as JSON: by name, the description and BigQuery's own form of the schema."""
    declared = {
        table.name: {
            "description": f"The last loaded batch. {table.description}",
            "schema": [
                {
                    "name": column.name,
                    "type": column.type.value,
                    "mode": "REQUIRED" if column.required else "NULLABLE",
                    "description": column.description,
                }
                for column in (*table.landed_columns, EXTRACTED_AT)
            ],
        }
        for table in tables.tables
    }
    return json.dumps(declared, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(declared_tables(load_tables(Path("config/tables.yaml"))))
