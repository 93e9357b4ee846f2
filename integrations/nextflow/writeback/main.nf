// Passes files on when they are on the permanent store:
//
//   include { WRITEBACK } from './integrations/nextflow/writeback'
//   WRITEBACK(SIMULATE.out.results)
//   ANALYSE_ELSEWHERE(WRITEBACK.out.files)
//
// The inputs lie in the task's folder as links; `writeback` follows them to the NFS mount of the work directory. A file
// that fails, fails the task; a service that is away is tried again.
process WRITEBACK {
    label 'writeback'
    errorStrategy { task.exitStatus in [69, 124] ? 'retry' : 'terminate' }
    maxRetries 3

    input:
    path files

    output:
    path '*', includeInputs: true, emit: files

    script:
    """
    set -o pipefail
    find -L . -type f ! -path './.command*' ! -path './.exitcode' -print0 |
        writeback submit --wait --files-from - -0 --label nextflow-process=WRITEBACK
    """
}
