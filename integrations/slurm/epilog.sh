#!/bin/sh
# Epilog of slurm.conf: submits what the batch job noted with `writeback later`. slurmd runs it as root on every node
# of the job; the first one submits, the others find the same list or none. It never fails, because slurmd drains a
# node whose epilog fails, and ends within 30 s.
set -a
# shellcheck source=/dev/null
[ -r /etc/writeback/hook.conf ] && . /etc/writeback/hook.conf

# shellcheck disable=SC2086  # WRITEBACK_SUBMIT_OPTIONS: several words
said=$(timeout -k 2 13 writeback submit --epilog --later --as "$SLURM_JOB_UID:$SLURM_JOB_GID" \
  --label "user=$SLURM_JOB_USER" $WRITEBACK_SUBMIT_OPTIONS 2>&1) ||
  said="writeback could not be run or was ended: $said"
[ -z "$said" ] || logger -t writeback -- "Slurm job $SLURM_JOB_ID: $said" 2>/dev/null
exit 0
