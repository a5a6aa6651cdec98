//! What the options are, for people.

/// What `fulcrumd --help` prints.
pub(crate) const HELP: &str = "\
fulcrumd: sets a board's clocks from a plan, serves inference and trains in between

Usage:
  fulcrumd run (--plan FILE | --plan-dir DIR) --power W [options]
  fulcrumd profile [--train NAME=STEP.onnx]... [--infer NAME=MODEL.onnx[:BATCH,...]]... --data FILE [options]
  fulcrumd load --to SOCKET (--rate R | --trace FILE) [options]
  fulcrumd status [--from ADDRESS] [--json | --prometheus]
  fulcrumd accept [--plan-dir DIR] [--sysfs-root DIR] [--board NAME]
  fulcrumd restore [--sysfs-root DIR] [--state-dir DIR]
  fulcrumd doctor [--json] [--sysfs-root DIR] [--state-dir DIR] [--power-rails A,B,...] [--onnxruntime PATH]
  fulcrumd capture --to DIR [--sysfs-root DIR]
  fulcrumd version

run: select the plan's best mode for the budgets, apply it, and work until stopped
  --plan FILE            plan file
  --plan-dir DIR         folder that `fulcrum flash` wrote to
  --power W              power budget in watts, 0.1 to 1000
  --latency-ms L         latency budget from arrival to answer, 0.1 to 600000; with --rate
  --rate R               requests per second, 0.001 to 1000000; with --latency-ms
  --infer MODEL.onnx     inference model (needs --latency-ms, --rate and --data); a second one is the plan's
                         second inference workload: not urgent, its batches run in the gaps
  --train STEP.onnx      training step, its parameters beside it (needs --data)
  --data FILE            labelled samples to train on
  --held-out FILE        labelled samples to serve (default: the last fifth of --data, then not trained on)
  --listen SOCKET        take requests from other processes here (docs/loop.md), instead of playing samples; a
                         second one for those of the second --infer
  --status ADDRESS       answer `fulcrumd status` and Prometheus here: a socket's path, or a port of this
                         machine such as 127.0.0.1:9464
  --lr X                 learning rate, above 0 to 10 (default 0.05)
  --checkpoint FILE      what training has reached, written while it runs and at the end; if the file exists,
                         training goes on from there
  --checkpoint-every N   steps between two, or seconds as in 60s (default 60s)
  --validate FILE|SHARE  serve trained weights only if these samples (a file, or a share of --data, 0.01 to 0.5,
                         that is then not trained on) are answered no worse than before
  --validate-every N     steps between two such checks (default: an epoch)
  --intra-op-threads N   threads of one operator, 1 to 64 (default 1)
  --provider NAME,...    cpu, cuda or tensorrt: the first that works here is taken (default cpu)
  --engine-memory-mib N  ONNX Runtime gets so much for weights and between operators, 1 to 2047, as a whole and at the
                         start; on a GPU at most as much there, too (default: it takes what it needs)
  --realtime             run the loop as SCHED_FIFO, with a rest that keeps it out of the kernel's throttle
  --pin                  keep the loop on one core: the last one that a mode leaves online
  --arrivals NAME        constant, poisson, diurnal, bursts or dying (default constant)
  --overload NAME        reject-newest, drop-late or answer-late (default reject-newest)
  --train-share P        least share of the time for training, in per cent, 0 to 90 (default 0): requests that would
                         need it are rejected
  --seed N               seed of arrivals and of the samples' order (default 1)
  --duration-s S         stop after this time, 0.1 to 31536000 (default: until a signal)
  --sysfs-root DIR       root of the board's files (default /)
  --state-dir DIR        folder for the record of the original clocks (default run/fulcrum below the root)
  --board NAME           refuse to run on any other board
  --power-rails A,B,...  rails whose sum is the board's power (default: those of docs/boards.md)
  --other-masks NAME     refuse or warn (default refuse): a GPU whose power-gating masks are not the plan's
  --onnxruntime PATH     ONNX Runtime library
  --json                 events as JSON, one object per line, on standard output

profile: measure what `fulcrum plan --profiles exec:COMMAND` asks for, over standard input and output
  --train NAME=STEP.onnx training step (:BATCH behind it if its graph has none)
  --infer NAME=MODEL.onnx:1,4,16
                         inference model and its batch sizes (default 1,4,16,32,64)
  --data FILE            labelled samples that the minibatches are made of
  --minibatches N        minibatches per profile, 5 to 10000 (default 40)
  --idle-s S             end after so long without a request, 1 to 86400 (default 600)
  and --intra-op-threads, --provider, --onnxruntime, --sysfs-root, --state-dir, --board, --power-rails
  as above

load: send requests to a `fulcrumd run --listen SOCKET`, whether or not it keeps up, and say what became of them
  --to SOCKET            where it listens
  --rate R               requests per second on average, 0.001 to 1000000
  --arrivals NAME        as above (default constant)
  --trace FILE           instead of both: the times to send at, one a line, in seconds
  --duration-s S         stop after this time, 0.1 to 31536000 (default 10, with --trace its end)
  --latency-ms L         count answers later than this, 0.1 to 600000
  --data FILE            samples to send (default: random ones)
  --seed N               seed of arrivals and random samples (default 1)
  --json                 the result as one JSON object

status: what a running `fulcrumd run --status ADDRESS` does; on a terminal, once a second
  --from ADDRESS         where it answers (default /run/fulcrum/status)
  --json, --prometheus   for scripts, and for node_exporter's textfile collector

accept: take a plan from standard input, verify it, flash it (what `fulcrum flash --to ssh:...` starts)
  --plan-dir DIR         where to (default /var/lib/fulcrum/plans)

restore: put back the clocks that a killed fulcrumd left changed

doctor: what this board is, what can be read and set, what will go wrong, and what mends it

capture: copy this board's files into a new folder, which is then a --sysfs-root

Exit codes: 0 done, 1 the answer is no (bad plan, other board, no solution), 2 usage or I/O
";
