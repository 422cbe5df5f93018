# Sourced by the stage scripts after settings.sh: how they run the single scripts.
# How a script is launched: see docs/scaling.md. Without LAUNCHER: Ray if RAY_ADDRESS is set, torchrun for several ranks.
NNODES=${NNODES:-1} NODE_RANK=${NODE_RANK:-0} MASTER_PORT=${MASTER_PORT:-29500}
fail() {
    echo "$*" >&2
    exit 2
}
case ${LAUNCHER:=${RAY_ADDRESS:+ray}} in
'' | torchrun | accelerate) [ "$NNODES" = 1 ] || [ -n "${MASTER_ADDR:-}" ] || fail "NNODES=$NNODES: set MASTER_ADDR, the address of the machine with NODE_RANK=0" ;;
none | ray) [ "$NNODES" = 1 ] || fail "LAUNCHER=$LAUNCHER and NNODES=$NNODES: several machines need torchrun or accelerate; a Ray cluster manages its own machines" ;;
*) fail "LAUNCHER=$LAUNCHER: choose none, torchrun, accelerate or ray" ;;
esac
if [ "$LAUNCHER" != ray ]; then unset RAY_ADDRESS; fi                                # scripts use Ray if it is set
if [ -n "$LAUNCHER" ]; then cpu_ranks=${NUM_PROCESSES:-1}; else cpu_ranks=1; fi # of scripts without a model, whose --n_jobs use all cores

# A command that can be pasted into a shell: arguments with other characters than these are quoted.
print_command() {
    line=+
    for word in "$@"; do
        case $word in
        '' | *[!A-Za-z0-9_./:=,+@%^-]*) word=\'$(printf %s "$word" | sed "s/'/'\\\\''/g")\' ;;
        esac
        line="$line $word"
    done
    printf '%s\n' "$line"
}

# Print a command and run it with N ranks per machine; a failure ends the stage.
launch() {
    ranks=$1
    shift
    if [ "$ranks" -lt 1 ] || [ "$LAUNCHER" = none ] || [ "$LAUNCHER" = ray ]; then ranks=1; fi
    if [ "$ranks" = 1 ] && [ "$NNODES" = 1 ]; then
        :
    elif [ "$LAUNCHER" = accelerate ]; then # --multi_gpu also starts N processes on CPUs; --cpu always starts one
        set -- -m accelerate.commands.launch --multi_gpu --mixed_precision no --dynamo_backend no --num_processes $((ranks * NNODES)) \
            --num_machines "$NNODES" --machine_rank "$NODE_RANK" ${MASTER_ADDR:+--main_process_ip "$MASTER_ADDR"} \
            --main_process_port "$([ "$NNODES" = 1 ] && echo 0 || echo "$MASTER_PORT")" --same_network "$@"
    elif [ "$NNODES" = 1 ]; then
        set -- -m torch.distributed.run --standalone --nproc_per_node="$ranks" "$@"
    else
        set -- -m torch.distributed.run --nnodes="$NNODES" --node_rank="$NODE_RANK" --master_addr="$MASTER_ADDR" --master_port="$MASTER_PORT" \
            --nproc_per_node="$ranks" "$@"
    fi
    set -- "$PYTHON" "$@"
    print_command "$@"
    run_child "$@"
}

# Run a script that shares its rows between ranks, or hands them to Ray.
run_ranks() { # ranks per machine, script, flags
    count=$1 script=$2
    shift 2
    if [ "$LAUNCHER" = ray ]; then set -- "$@" --ray; fi
    launch "$count" "$here/$script" "$@" ${TIMEOUT_SECONDS:+--timeout_seconds="$TIMEOUT_SECONDS"} ${STALL_SECONDS:+--stall_seconds="$STALL_SECONDS"} ${OVERWRITE:+--overwrite} ${RETRY_ERRORS:+--retry_errors}
}

# Ranks of an engine: one per GPU; vLLM one per TENSOR_PARALLEL_SIZE GPUs.
engine_ranks() { # engine
    case $1 in
    vllm) echo "${NUM_PROCESSES:-$((GPUS / ${TENSOR_PARALLEL_SIZE:-1}))}" ;;
    transformers) echo "${NUM_PROCESSES:-$GPUS}" ;;
    openai) echo 1 ;; # sends --concurrency requests at a time
    *) echo "$cpu_ranks" ;;
    esac
}

# Run a script that queries a model, with the flags shared by all such scripts.
ask() { # engine, script, more flags
    engine=$1 script=$2
    shift 2
    server= address=
    if [ "$engine" = openai ]; then server=${ENGINE_SERVER:-} address=${BASE_URL:-}; fi
    run_ranks "$(engine_ranks "$engine")" "$script" "$@" ${server:+--engine_server="$server"} ${address:+--base_url="$address"} \
        ${SERVER_ARGS:+--server_args="$SERVER_ARGS"} ${ENGINE_ARGS:+--engine_args="$ENGINE_ARGS"} ${CONCURRENCY:+--concurrency="$CONCURRENCY"} \
        ${TENSOR_PARALLEL_SIZE:+--tensor_parallel_size="$TENSOR_PARALLEL_SIZE"} ${MAX_MODEL_LEN:+--max_model_len="$MAX_MODEL_LEN"} \
        ${QUANTIZATION:+--quantization="$QUANTIZATION"} ${BATCH_SIZE:+--batch_size="$BATCH_SIZE"} ${SEED:+--seed="$SEED"} ${TEMPERATURE:+--temperature="$TEMPERATURE"} ${N_JOBS:+--n_jobs="$N_JOBS"}
}

# Run a script that processes a whole table: on the first machine, while the others wait.
run() { # script, flags
    script=$1
    shift
    set -- "$here/$script" "$@" ${OVERWRITE:+--overwrite} ${RETRY_ERRORS:+--retry_errors}
    if [ "$NNODES" = 1 ]; then launch 1 "$@"; else PYTHONPATH=$here launch 1 -m tools.run_once "$PYTHON" "$@"; fi
}

# Fail if an input of the stage is missing; the scripts check URLs.
needs() { # path, what to do if it is missing
    case $1 in *://*) ;; *) [ -e "$1" ] || fail "$1 does not exist: $2" ;; esac
}

# Files saved from the report are inputs that are easily forgotten.
remind() { # file, setting that takes it, its value
    if [ -e "$1" ] && [ -z "$3" ]; then echo "$1 exists and is not used; to use it: $2=$1"; fi
}

# End the stage with exit code 1 if its result is empty; behind a URL, the scripts' last lines report it.
must_hold() { # result, what to do
    case $1 in *://*) return ;; esac
    if [ ! -s "$1" ]; then
        echo "nothing is left: $2" >&2
        exit 1
    fi
}

# Whether a file of a dataset exists.
is_there() { # path
    case $1 in
    *://*)
        code=0
        PYTHONPATH=$here "$PYTHON" -c 'import sys; from utils.ending import run; from utils.storage import exists; run(lambda: sys.exit(not exists(sys.argv[1])))' "$1" || code=$?
        if [ "$code" -gt 1 ]; then exit "$code"; fi # a storage that does not answer says nothing of its files
        return "$code"
        ;;
    *) [ -e "$1" ] ;;
    esac
}

# Write report.html in DATASET_FOLDER; REPORT=0 skips it. A stage succeeds even if the report fails.
report() { # folder of the clips; their list, unless it is the one that train.jsonl was chosen from
    if [ "${REPORT:-1}" = 0 ]; then return; fi
    case $2 in '' | *://*) ;; *) [ -s "$2" ] || return 0 ;; esac
    export PRESET
    run make_report.py "$DATASET_FOLDER" --video_folder="$1" ${2:+--video_metadata_path="$2"} ${N_JOBS:+--n_jobs="$N_JOBS"} || echo "no report was written: see above" >&2
}
