/*
 * The yardstick of the raw benchmark: LOOKUP and COMMIT of every file of a flat list with libnfs' asynchronous
 * interface, over one connection with a fixed window. Prints one line of JSON.
 *
 *   gcc -O2 -o libnfs-flush libnfs-flush.c -lnfs
 *   libnfs-flush HOST MOUNT_PORT NFS_PORT EXPORT COUNT WINDOW
 *
 * The files are named f000000, f000001 and so on, in the export's top directory.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-nfs.h>

enum { OFFSET_WHOLE_FILE = 0, COUNT_WHOLE_FILE = 0, MAX_HANDLE = 64 };

static struct rpc_context *rpc;
static char root[MAX_HANDLE];
static unsigned root_length;
static unsigned long count, next_file, done, failed;
static int ready;

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, rpc != NULL ? rpc_get_error(rpc) : strerror(errno));
	exit(1);
}

static void start_next(void);

static void commit_done(struct rpc_context *context, int status, void *data, void *private_data)
{
	COMMIT3res *res = data;

	(void)context;
	(void)private_data;
	if (status != RPC_STATUS_SUCCESS)
		die("COMMIT");
	if (res->status != NFS3_OK)
		failed++;
	done++;
	start_next();
}

static void lookup_done(struct rpc_context *context, int status, void *data, void *private_data)
{
	LOOKUP3res *res = data;
	COMMIT3args args;

	(void)private_data;
	if (status != RPC_STATUS_SUCCESS)
		die("LOOKUP");
	if (res->status != NFS3_OK) {
		failed++;
		done++;
		start_next();
		return;
	}
	args.file = res->LOOKUP3res_u.resok.object;
	args.offset = OFFSET_WHOLE_FILE;
	args.count = COUNT_WHOLE_FILE;
	if (rpc_nfs3_commit_async(context, commit_done, &args, NULL) != 0)
		die("COMMIT");
}

static void start_next(void)
{
	LOOKUP3args args;
	char name[32];

	if (next_file == count)
		return;
	snprintf(name, sizeof(name), "f%06lu", next_file++);
	args.what.dir.data.data_val = root;
	args.what.dir.data.data_len = root_length;
	args.what.name = name;
	if (rpc_nfs3_lookup_async(rpc, lookup_done, &args, NULL) != 0)
		die("LOOKUP");
}

static void connected(struct rpc_context *context, int status, void *data, void *private_data)
{
	(void)context;
	(void)data;
	(void)private_data;
	if (status != RPC_STATUS_SUCCESS)
		die("connect");
	ready = 1;
}

static void mounted(struct rpc_context *context, int status, void *data, void *private_data)
{
	mountres3 *res = data;

	(void)context;
	(void)private_data;
	if (status != RPC_STATUS_SUCCESS)
		die("MNT");
	if (res->fhs_status != MNT3_OK) {
		fprintf(stderr, "MNT: status %d\n", res->fhs_status);
		exit(1);
	}
	root_length = res->mountres3_u.mountinfo.fhandle.fhandle3_len;
	memcpy(root, res->mountres3_u.mountinfo.fhandle.fhandle3_val, root_length);
	ready = 1;
}

static void service(void)
{
	struct pollfd fd = { .fd = rpc_get_fd(rpc), .events = rpc_which_events(rpc) };

	if (poll(&fd, 1, 10000) <= 0)
		die("no answer");
	if (rpc_service(rpc, fd.revents) < 0)
		die("service");
}

static void wait_until_ready(void)
{
	ready = 0;
	while (!ready)
		service();
}

static void connect_to(const char *host, int port, int program)
{
	rpc = rpc_init_context();
	if (rpc == NULL || rpc_connect_port_async(rpc, host, port, program, 3, connected, NULL) != 0)
		die("connect");
	wait_until_ready();
}

int main(int argc, char **argv)
{
	double begin, took;
	unsigned long window, i;

	if (argc != 7) {
		fprintf(stderr, "usage: %s HOST MOUNT_PORT NFS_PORT EXPORT COUNT WINDOW\n", argv[0]);
		return 2;
	}
	count = strtoul(argv[5], NULL, 10);
	window = strtoul(argv[6], NULL, 10);

	connect_to(argv[1], atoi(argv[2]), MOUNT_PROGRAM);
	if (rpc_mount3_mnt_async(rpc, mounted, argv[4], NULL) != 0)
		die("MNT");
	wait_until_ready();
	rpc_destroy_context(rpc);

	connect_to(argv[1], atoi(argv[3]), NFS_PROGRAM);
	begin = seconds();
	for (i = 0; i < window; i++)
		start_next();
	while (done < count)
		service();
	took = seconds() - begin;
	printf("{\"client\":\"libnfs\",\"files\":%lu,\"failed\":%lu,\"window\":%lu,\"seconds\":%.3f,\"filesPerSecond\":%.0f}\n",
	       count, failed, window, took, count / took);
	rpc_destroy_context(rpc);
	return failed == 0 ? 0 : 1;
}
