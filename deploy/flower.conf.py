# ruff: noqa: INP001 - Flower reads this file by its path
"""Flower's settings, read where it is started with `--conf=deploy/flower.conf.py`. Options on the command line win.

FLOWER_BASIC_AUTH, FLOWER_PORT, FLOWER_URL_PREFIX and whatever else is not named here come from the environment.
"""

from shared.settings import Settings

_settings = Settings.from_env()

#: What it has seen outlives it: saved when it ends, and every minute for when it is killed.
persistent = True
db = str(_settings.data_dir / "flower")
state_save_interval = 60_000
#: Jobs in memory and in that file. All of them are written at once, meanwhile no page is answered.
max_tasks = 20_000
#: kwargs holds account and track_id. A job starts as it is received: one of the two leaves room for the worker.
tasks_columns = "name,uuid,state,kwargs,received,runtime,worker"
