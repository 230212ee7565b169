/* rte_fib and rte_lpm: IPv4. */
#include <errno.h>

#include <rte_fib.h>
#include <rte_lpm.h>

#include "fib_dpdk.h"

static void *fib_create(const char *name, uint32_t routes, uint32_t groups,
			enum rte_fib_dir24_8_nh_sz width)
{
	struct rte_fib_conf conf = {
		.type = RTE_FIB_DIR24_8,
		.default_nh = 0,
		/* It makes room for inner nodes itself. */
		.max_routes = routes + 1024,
		.dir24_8 = { .nh_sz = width, .num_tbl8 = groups },
	};
	struct rte_fib *fib = rte_fib_create(name, 0, &conf);
	if (fib == NULL)
		return NULL;
	if (rte_fib_select_lookup(fib, RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512) != 0) {
		fail("rte_fib has no AVX512 lookup on this processor");
		rte_fib_free(fib);
		return NULL;
	}
	return fib;
}

static void *fib2_create(const char *name, uint32_t routes, uint32_t groups)
{
	return fib_create(name, routes, groups, RTE_FIB_DIR24_8_2B);
}

static void *fib4_create(const char *name, uint32_t routes, uint32_t groups)
{
	return fib_create(name, routes, groups, RTE_FIB_DIR24_8_4B);
}

static void fib_destroy(void *fib)
{
	rte_fib_free(fib);
}

static int fib_add(void *fib, const void *at)
{
	const struct route4 *route = at;
	return rte_fib_add(fib, route->address, route->length, route->hop);
}

static int fib_remove(void *fib, const void *at)
{
	const struct route4 *route = at;
	return rte_fib_delete(fib, route->address, route->length);
}

static void fib_run(void *fib, const void *at, size_t n, unsigned batch)
{
	uint64_t results[BATCH_MAX];
	/* The interface wants them writable, and does not write. */
	uint32_t *addresses = (uint32_t *)(uintptr_t)at;
	for (size_t i = 0; i + batch <= n; i += batch) {
		rte_fib_lookup_bulk(fib, addresses + i, results, batch);
		BARRIER(results);
	}
}

static void fib_look(void *fib, const void *at, unsigned n, uint16_t *hops)
{
	uint64_t results[BATCH_MAX];
	rte_fib_lookup_bulk(fib, (uint32_t *)(uintptr_t)at, results, n);
	for (unsigned i = 0; i < n; i++)
		hops[i] = results[i];
}

static void *lpm_create(const char *name, uint32_t routes, uint32_t groups)
{
	struct rte_lpm_config config = { .max_rules = routes + 1024, .number_tbl8s = groups };
	return rte_lpm_create(name, 0, &config);
}

static void lpm_destroy(void *lpm)
{
	rte_lpm_free(lpm);
}

static int lpm_add(void *lpm, const void *at)
{
	const struct route4 *route = at;
	return rte_lpm_add(lpm, route->address, route->length, route->hop);
}

static int lpm_remove(void *lpm, const void *at)
{
	const struct route4 *route = at;
	return rte_lpm_delete(lpm, route->address, route->length);
}

static void lpm_run(void *lpm, const void *at, size_t n, unsigned batch)
{
	uint32_t results[BATCH_MAX];
	const uint32_t *addresses = at;
	for (size_t i = 0; i + batch <= n; i += batch) {
		rte_lpm_lookup_bulk(lpm, addresses + i, results, batch);
		BARRIER(results);
	}
}

static void lpm_look(void *lpm, const void *at, unsigned n, uint16_t *hops)
{
	uint32_t results[BATCH_MAX];
	const uint32_t *addresses = at;
	rte_lpm_lookup_bulk(lpm, addresses, results, n);
	for (unsigned i = 0; i < n; i++)
		hops[i] = results[i] & RTE_LPM_LOOKUP_SUCCESS ? results[i] & 0xffff : 0;
}

#define IPV4 .address_size = sizeof(uint32_t), .route_size = sizeof(struct route4)

const struct kind kinds4[] = {
	{ .name = "fib2", IPV4, .create = fib2_create, .destroy = fib_destroy, .add = fib_add,
	  .remove = fib_remove, .absent = ENOENT, .run = fib_run, .look = fib_look,
	  /* The most that 15 bits of an entry can number. */
	  .groups = 32767, .groups_max = 32767 },
	{ .name = "fib4", IPV4, .create = fib4_create, .destroy = fib_destroy, .add = fib_add,
	  .remove = fib_remove, .absent = ENOENT, .run = fib_run, .look = fib_look,
	  .groups = 32767, .groups_max = 1 << 20 },
	{ .name = "lpm", IPV4, .create = lpm_create, .destroy = lpm_destroy, .add = lpm_add,
	  .remove = lpm_remove, .absent = EINVAL, .run = lpm_run, .look = lpm_look,
	  .groups = 32767, .groups_max = 1 << 20 },
};
const size_t kinds4_len = sizeof(kinds4) / sizeof(kinds4[0]);
