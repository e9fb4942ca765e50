from .entry import main as main
from .options import (
    Device as Device,
    Json as Json,
    Seed as Seed,
    UnusedDevice as UnusedDevice,
    UnusedSeed as UnusedSeed,
)
from .printing import (
    console as console,
    new_table as new_table,
    print_json as print_json,
    print_lines as print_lines,
    progress_bars as progress_bars,
)
from .writing import new_folder as new_folder, write_bytes as write_bytes, write_text as write_text
