"""`darkroom up`: everything on one machine, from one command.

A real Valkey (unless REDIS_URL names a server), then the processes of the `Procfile`, kept running until told to
stop.

    folder      the data directory: its lock, its secrets, what runs in it
    ports       which ports are free
    procfile    the Procfile as programs
    valkey      the embedded Valkey
    child       one running program: its process group, its output, its end
    restarts    when to start a dead program again, when to give up
    supervisor  keeps programs running; stops them in order
    janitor     ends what a killed supervisor leaves behind
    output      what people see, and the log files
    stack       puts these together

Why a loop of our own: honcho ends everything when one child exits; supervisor gives up on the one program and lets
the rest run on, keeps nothing in order when it stops (the queue's server has to go last), and leaves orphans when it
is killed itself; circus brings ZeroMQ and a control socket for what is one signal here. What is taken from them:
honcho's Procfile parser, supervisor's group kill, circus' bound on restarts within a window.
"""
