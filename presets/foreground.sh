# Sourced by quickstart.sh and the stages. A shell that is sent SIGTERM alone (a scheduler, `docker stop` without tini) passes it on to the
# command that runs, which saves what is done, and ends with 143. A shell answers no signal while a command of its foreground runs, so
# commands run in the background and are waited for. There they start with Ctrl-C ignored, and Python's answers only once it has started: hence SIGTERM for it, too.
running= ended= # the command's process; the exit code, once a signal has come
stop() {
    ended=$1
    case $running in
    '') exit "$ended" ;;
    starting) ;; # run_child passes it on
    *) kill -TERM "$running" 2>/dev/null || : ;;
    esac
}
trap 'stop 129' HUP
trap 'stop 130' INT
trap 'stop 131' QUIT
trap 'stop 143' TERM

# Run a command as if in the foreground, but without standard input; its exit code.
run_child() {
    running=starting
    "$@" &
    running=$!
    if [ -n "$ended" ]; then stop "$ended"; fi
    code=0
    wait "$running" || code=$?
    while [ -n "$ended" ] && kill -0 "$running" 2>/dev/null; do wait "$running" || :; done # a signal ends `wait`, not the command
    running=
    if [ -n "$ended" ]; then exit "$ended"; fi
    return "$code"
}
