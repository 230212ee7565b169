/*
 * Longest-prefix match of DPDK, measured by command: one line in on stdin, one line out on stdout.
 *
 *   build TABLE KIND FILE ROOM     makes a table of a file of routes, with room for ROOM more
 *                                  -> built SECONDS GROUPS BYTES
 *   extend TABLE FILE              adds more routes              -> extended SECONDS
 *   free TABLE                                                   -> freed
 *   traffic FILE WIDTH             the addresses to look up      -> traffic ADDRESSES
 *   run TABLE BATCH SECONDS        whole passes over them        -> ran LOOKUPS SECONDS
 *   sum TABLE BATCH                one pass, checked             -> sum HEX
 *   replay TABLE FILE SECONDS      updates, at most so long      -> replayed UPDATES SECONDS
 *   latency TABLE FILE SECONDS     the same, each timed, in ns   -> latency UPDATES P50 P99 MAX
 *   quit
 *
 * or "error TEXT". It sleeps in read(2) between commands.
 *
 * Lookups are AVX512 ones, or the table is not made. The files' form is in fib_dpdk.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_malloc.h>
#include <rte_version.h>

#include "fib_dpdk.h"

enum { TABLES = 16, WORD = 64, LINE = 4096 };

struct table {
	char name[WORD];
	const struct kind *kind;
	void *handle;
};

struct file {
	void *at;
	size_t bytes;
};

static struct table tables[TABLES];
static struct file traffic;
static size_t traffic_width;
static char failure[512];

/*
 * Keeps DPDK's memory private and anonymous, as every other program's is, instead of shared memory
 * of a memfd: the system gives huge pages to the two by different settings.
 */
int memfd_create(const char *name, unsigned int flags)
{
	(void)name, (void)flags;
	errno = ENOSYS;
	return -1;
}

int fail(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(failure, sizeof(failure), format, arguments);
	va_end(arguments);
	return -1;
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

static int open_file(const char *path, struct file *file)
{
	struct stat stat;
	int fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &stat) != 0) {
		int error = errno;
		if (fd >= 0)
			close(fd);
		return fail("%s: %s", path, strerror(error));
	}
	/* Read, not mapped: it lies in pages like those of the other side then. */
	file->bytes = stat.st_size;
	file->at = mmap(NULL, file->bytes + 1, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (file->at == MAP_FAILED) {
		close(fd);
		return fail("%s: no memory for %zu bytes", path, file->bytes);
	}
	for (size_t got = 0; got < file->bytes;) {
		ssize_t n = read(fd, (char *)file->at + got, file->bytes - got);
		if (n <= 0) {
			munmap(file->at, file->bytes + 1);
			close(fd);
			return fail("%s: cannot be read to its end", path);
		}
		got += n;
	}
	close(fd);
	return 0;
}

static void close_file(struct file *file)
{
	if (file->at != NULL)
		munmap(file->at, file->bytes + 1);
	file->at = NULL;
}

static const struct kind *kind_named(const char *name)
{
	for (size_t i = 0; i < kinds4_len; i++)
		if (strcmp(kinds4[i].name, name) == 0)
			return &kinds4[i];
	for (size_t i = 0; i < kinds6_len; i++)
		if (strcmp(kinds6[i].name, name) == 0)
			return &kinds6[i];
	fail("no kind of table is called %s", name);
	return NULL;
}

static struct table *table_named(const char *name)
{
	for (size_t i = 0; i < TABLES; i++)
		if (tables[i].kind != NULL && strcmp(tables[i].name, name) == 0)
			return &tables[i];
	fail("no table is called %s", name);
	return NULL;
}

static size_t allocated(void)
{
	struct rte_malloc_socket_stats stats;
	return rte_malloc_get_socket_stats(0, &stats) == 0 ? stats.heap_allocsz_bytes : 0;
}

static int add_all(const struct kind *kind, void *handle, const struct file *file)
{
	size_t n = file->bytes / kind->route_size;
	for (size_t i = 0; i < n; i++) {
		int error = kind->add(handle, (char *)file->at + i * kind->route_size);
		if (error != 0) {
			fail("route %zu of %zu: %s", i, n, strerror(-error));
			return error;
		}
	}
	return 0;
}

static int build(const char *name, const char *kind_name, const char *path, const char *room)
{
	const struct kind *kind = kind_named(kind_name);
	struct table *table = NULL;
	struct file file;
	for (size_t i = 0; i < TABLES && table == NULL; i++)
		if (tables[i].kind == NULL)
			table = &tables[i];
	if (kind == NULL)
		return -1;
	if (table == NULL)
		return fail("%d tables are there already", TABLES);
	if (open_file(path, &file) != 0)
		return -1;
	uint32_t routes = file.bytes / kind->route_size + strtoul(room, NULL, 10);
	for (uint32_t groups = kind->groups;; groups *= 2) {
		size_t before = allocated();
		failure[0] = 0;
		double start = now();
		void *handle = kind->create(name, routes, groups);
		if (handle == NULL) {
			if (failure[0] == 0)
				fail("%s with %u groups: %s", kind_name, groups,
				     rte_strerror(rte_errno));
			break;
		}
		int error = add_all(kind, handle, &file);
		double took = now() - start;
		if (error == 0) {
			close_file(&file);
			snprintf(table->name, sizeof(table->name), "%s", name);
			table->kind = kind;
			table->handle = handle;
			printf("built %.6f %u %zu\n", took, groups, allocated() - before);
			return 0;
		}
		kind->destroy(handle);
		/* "No space" of a full mempool or of the groups: only the latter is cured. */
		if (error != -ENOSPC || groups >= kind->groups_max)
			break;
	}
	close_file(&file);
	return -1;
}

static int extend(const char *name, const char *path)
{
	struct table *table = table_named(name);
	struct file file;
	if (table == NULL || open_file(path, &file) != 0)
		return -1;
	double start = now();
	int error = add_all(table->kind, table->handle, &file);
	double took = now() - start;
	close_file(&file);
	if (error != 0)
		return -1;
	printf("extended %.6f\n", took);
	return 0;
}

static int free_table(const char *name)
{
	struct table *table = table_named(name);
	if (table == NULL)
		return -1;
	table->kind->destroy(table->handle);
	table->kind = NULL;
	printf("freed\n");
	return 0;
}

static int load_traffic(const char *path, const char *width)
{
	struct file file;
	if (open_file(path, &file) != 0)
		return -1;
	close_file(&traffic);
	traffic = file;
	traffic_width = strtoul(width, NULL, 10);
	if (traffic_width == 0 || traffic.bytes / traffic_width < BATCH_MAX) {
		traffic_width = 0;
		return fail("%s: fewer than %d addresses of %s bytes", path, BATCH_MAX, width);
	}
	printf("traffic %zu\n", traffic.bytes / traffic_width);
	return 0;
}

static struct table *table_with_traffic(const char *name)
{
	struct table *table = table_named(name);
	if (table != NULL && table->kind->address_size != traffic_width) {
		fail("the traffic has addresses of %zu bytes", traffic_width);
		return NULL;
	}
	return table;
}

static int run(const char *name, const char *batch_text, const char *seconds_text)
{
	struct table *table = table_with_traffic(name);
	unsigned long batch = strtoul(batch_text, NULL, 10);
	double seconds = strtod(seconds_text, NULL);
	if (table == NULL)
		return -1;
	if (batch < 1 || batch > BATCH_MAX)
		return fail("a batch is 1 to %d addresses, not %s", BATCH_MAX, batch_text);
	size_t n = traffic.bytes / traffic_width;
	/* Brings the table back into the caches. */
	table->kind->run(table->handle, traffic.at, n, batch);
	size_t looked_up = 0;
	double start = now(), took;
	do {
		table->kind->run(table->handle, traffic.at, n, batch);
		looked_up += n - n % batch;
		took = now() - start;
	} while (took < seconds);
	printf("ran %zu %.9f\n", looked_up, took);
	return 0;
}

/* FNV-1a over the words position and hop, 64 bits wide. */
static uint64_t fold(uint64_t sum, uint64_t position, uint16_t hop)
{
	const uint64_t prime = 0x100000001b3;
	return ((sum ^ position) * prime ^ hop) * prime;
}

static int sum(const char *name, const char *batch_text)
{
	struct table *table = table_with_traffic(name);
	unsigned long batch = strtoul(batch_text, NULL, 10);
	uint16_t hops[BATCH_MAX];
	uint64_t sum = 0xcbf29ce484222325;
	if (table == NULL)
		return -1;
	if (batch < 1 || batch > BATCH_MAX)
		return fail("a batch is 1 to %d addresses, not %s", BATCH_MAX, batch_text);
	size_t n = traffic.bytes / traffic_width;
	for (size_t i = 0; i + batch <= n; i += batch) {
		table->kind->look(table->handle, (char *)traffic.at + i * traffic_width, batch, hops);
		for (unsigned long j = 0; j < batch; j++)
			sum = fold(sum, i + j, hops[j]);
	}
	printf("sum %016lx\n", (unsigned long)sum);
	return 0;
}

static int update(const struct table *table, const void *at)
{
	uint16_t hop = table->kind->route_size == sizeof(struct route4)
			       ? ((const struct route4 *)at)->hop
			       : ((const struct route6 *)at)->hop;
	if (hop != 0)
		return table->kind->add(table->handle, at);
	int error = table->kind->remove(table->handle, at);
	return error == -table->kind->absent ? 0 : error;
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static int replay(const char *name, const char *path, const char *seconds_text, bool each)
{
	struct table *table = table_named(name);
	double seconds = strtod(seconds_text, NULL);
	struct file file;
	if (table == NULL || open_file(path, &file) != 0)
		return -1;
	size_t size = table->kind->route_size, n = file.bytes / size, i = 0;
	uint32_t *times = malloc((n + 1) * sizeof(*times));
	int error = 0;
	double start, before, took = 0;
	if (times == NULL) {
		close_file(&file);
		return fail("no memory for the times of %zu updates", n);
	}
	/* Their pages are to be there. */
	memset(times, 1, (n + 1) * sizeof(*times));
	start = before = now();
	for (; i < n && took < seconds; i++) {
		error = update(table, (char *)file.at + i * size);
		if (error != 0)
			break;
		/* Slow tables end in time too. */
		if (each) {
			double after = now();
			times[i] = (after - before) * 1e9;
			before = after;
			took = after - start;
		} else if (i % 64 == 0) {
			took = now() - start;
		}
	}
	took = now() - start;
	close_file(&file);
	if (error != 0) {
		fail("update %zu of %zu: %s", i, n, strerror(-error));
	} else if (each) {
		qsort(times, i, sizeof(*times), ascending);
		printf("latency %zu %u %u %u\n", i, times[i / 2], times[i * 99 / 100],
		       times[i - 1]);
	} else {
		printf("replayed %zu %.9f\n", i, took);
	}
	free(times);
	return error == 0 ? 0 : -1;
}

static int obey(int words, char **word)
{
#define COMMAND(name, arguments) (strcmp(word[0], name) == 0 && words == 1 + (arguments))
	if (COMMAND("build", 4))
		return build(word[1], word[2], word[3], word[4]);
	if (COMMAND("extend", 2))
		return extend(word[1], word[2]);
	if (COMMAND("free", 1))
		return free_table(word[1]);
	if (COMMAND("traffic", 2))
		return load_traffic(word[1], word[2]);
	if (COMMAND("run", 3))
		return run(word[1], word[2], word[3]);
	if (COMMAND("sum", 2))
		return sum(word[1], word[2]);
	if (COMMAND("replay", 3))
		return replay(word[1], word[2], word[3], false);
	if (COMMAND("latency", 3))
		return replay(word[1], word[2], word[3], true);
#undef COMMAND
	return fail("no command %s with %d arguments", word[0], words - 1);
}

int main(int argc, char **argv)
{
	char line[LINE];
	if (rte_eal_init(argc, argv) < 0) {
		printf("error DPDK does not start: %s\n", rte_strerror(rte_errno));
		return 1;
	}
	printf("ready %s\n", rte_version());
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		char *word[8];
		int words = 0;
		for (char *w = strtok(line, " \n"); w != NULL && words < 8; w = strtok(NULL, " \n"))
			word[words++] = w;
		if (words == 0)
			continue;
		if (strcmp(word[0], "quit") == 0)
			break;
		if (obey(words, word) != 0)
			printf("error %s\n", failure);
		fflush(stdout);
	}
	rte_eal_cleanup();
	return 0;
}
