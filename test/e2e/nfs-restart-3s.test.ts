import { test } from 'node:test';
import { restartUnderJob } from './nfs-restart.js';

test('an NFS server that is gone for three seconds costs a job no file', (t) => restartUnderJob(t, 3000));
