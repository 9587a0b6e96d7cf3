"""A scheduler on pymesos that is told what to do by lines of JSON, and tells what happened in the same way.

    scheduler.py MASTER NAME          MASTER is `zk://host:port/path` or `host:port`

Orders, one JSON object a line on standard input; its end means `stop`:

    {"do": "launch", "task": ID, "command": TEXT}    with the next offer that has room
    {"do": "kill", "task": ID}
    {"do": "reconcile", "tasks": [ID, ...]}          none means all that the master knows
    {"do": "stop", "failover": BOOL}                 tears the framework down unless it is to be taken over

Everything that the driver reports goes to standard output, one JSON object a line with its name as "event".
"""

import getpass
import json
import logging
import sys
import threading

from pymesos import MesosSchedulerDriver, Scheduler

CPUS = 0.1
MEM = 32.0


def tell(event, **more):
    # One write a line: the driver's thread and the main one both tell.
    sys.stdout.write(json.dumps(dict(event=event, **more)) + "\n")
    sys.stdout.flush()


def amount(offer, name):
    return sum(r.scalar.value for r in offer.resources if r.name == name and r.type == "SCALAR")


def task_info(offer, task, command):
    def scalar(name, value):
        return dict(name=name, type="SCALAR", scalar=dict(value=value))

    return dict(
        task_id=dict(value=task),
        name=task,
        agent_id=dict(value=offer.agent_id.value),
        resources=[scalar("cpus", CPUS), scalar("mem", MEM)],
        command=dict(shell=True, value=command),
    )


class Obedient(Scheduler):
    """Launches what it was told to, and wants no offers otherwise."""

    def __init__(self):
        # Held over the calls as well: a suppression must not overtake the revival for a task that has just come.
        self.turn = threading.RLock()
        self.wanted = []

    def launch(self, driver, task, command):
        with self.turn:
            self.wanted.append((task, command))
            driver.reviveOffers()

    def registered(self, driver, framework_id, master_info):
        tell("registered", framework=framework_id.value, port=master_info.port, version=master_info.version)

    def reregistered(self, driver, master_info):
        tell("reregistered", framework=driver.framework_id, port=master_info.port)

    def disconnected(self, driver):
        tell("disconnected")

    def resourceOffers(self, driver, offers):
        with self.turn:
            for offer in offers:
                self.use(driver, offer)
            if not self.wanted:
                driver.suppressOffers()

    def use(self, driver, offer):
        cpus, mem = amount(offer, "cpus"), amount(offer, "mem")
        infos = []
        while self.wanted and cpus >= CPUS and mem >= MEM:
            infos.append(task_info(offer, *self.wanted.pop(0)))
            cpus, mem = cpus - CPUS, mem - MEM
        launched = [info["task_id"]["value"] for info in infos]
        tell("offer", offer=offer.id.value, agent=offer.agent_id.value, host=offer.hostname, launched=launched)
        if infos:
            driver.launchTasks(offer.id, infos)
        else:
            driver.declineOffer(offer.id, filters=dict(refuse_seconds=5))

    def offerRescinded(self, driver, offer_id):
        tell("rescinded", offer=offer_id.value)

    def statusUpdate(self, driver, status):
        tell(
            "update",
            task=status.task_id.value,
            state=status.state,
            reason=status.get("reason"),
            source=status.get("source"),
            message=status.get("message"),
            to_be_acknowledged="uuid" in status,
        )

    def error(self, driver, message):
        tell("error", message=message)


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    master, name = sys.argv[1:]
    scheduler = Obedient()
    framework = dict(user=getpass.getuser(), name=name, failover_timeout=60, checkpoint=True)
    driver = MesosSchedulerDriver(scheduler, framework, master, use_addict=True)
    driver.start()
    failover = False
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "launch":
            scheduler.launch(driver, order["task"], order["command"])
        elif order["do"] == "kill":
            driver.killTask(dict(value=order["task"]))
        elif order["do"] == "reconcile":
            driver.reconcileTasks([dict(task_id=dict(value=task)) for task in order["tasks"]])
        elif order["do"] == "stop":
            failover = order["failover"]
            break
        else:
            raise ValueError("an unknown order: " + line)
    driver.stop(failover)
    driver.join()
    tell("stopped")


main()
