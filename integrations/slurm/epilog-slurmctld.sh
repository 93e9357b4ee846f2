#!/bin/sh
# EpilogSlurmctld of slurm.conf: submits what the comment of the batch job asks for, as in
#   sbatch --comment 'writeback cache=scratch export=/exp1 directory=/run42 include=**/*.h5' job.sh
# slurmctld runs it as SlurmUser once at the end of each run of a job; no mount of the cache is needed there. It never
# fails, and has patience for a minute: no node waits for it, and what it cannot submit nobody submits later.
case $SLURM_JOB_COMMENT in 'writeback '*) ;; *) exit 0 ;; esac
set -a
# shellcheck source=/dev/null
[ -r /etc/writeback/hook.conf ] && . /etc/writeback/hook.conf

said=$(timeout -k 2 65 writeback submit --epilog --within 60s --request "${SLURM_JOB_COMMENT#writeback }" \
  --label "batch-job=slurm-$SLURM_CLUSTER_NAME-$SLURM_JOB_ID" --label "user=$SLURM_JOB_USER" 2>&1) ||
  said="writeback could not be run or was ended: $said"
logger -t writeback -- "Slurm job $SLURM_JOB_ID: $said" 2>/dev/null
exit 0
