"""The operator client of pymesos, one call a line.

    operator_client.py HOST:PORT          a master, leading or not

Each line of standard input is {"call": NAME, "with": [ARGUMENT, ...]}, the name being that of a method of the client, such
as `getState`. The answer goes to standard output, one JSON object a line: {"call": NAME, "answer": ...}, or
{"call": NAME, "refused": WORDS}.
"""

import json
import sys

from pymesos import MesosOperatorMasterDriver


def main():
    driver = MesosOperatorMasterDriver(sys.argv[1])
    for line in sys.stdin:
        order = json.loads(line)
        try:
            told = dict(call=order["call"], answer=getattr(driver, order["call"])(*order["with"]))
        except RuntimeError as refused:
            told = dict(call=order["call"], refused=str(refused))
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


main()
