// SPDX-License-Identifier: MIT
#include "pair.h"

#include <sys/socket.h>

enum { GID_INDEX = 1, PORT = 1, LARGEST = 64 * 1024 * 1024 };

struct address {
	uint32_t qp;
	union ibv_gid gid;
};

enum operation { WRITE, READ, ADD, SWAP, SEND, RECEIVE, END };

struct order {
	enum operation operation;
	uint32_t rkey;
	uint64_t addr;
	size_t len;
	uint64_t offset; /* of the content */
	unsigned seed, times;
	uint64_t compare, swap;
};

struct endpoint me;
static pid_t peer;

/* The peer is not under cmocka. */
#define need(condition)                                                               \
	do {                                                                          \
		if (!(condition)) {                                                   \
			fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, \
				#condition, errno);                                   \
			if (peer)                                                     \
				fail();                                               \
			_exit(1);                                                     \
		}                                                                     \
	} while (0)

static void put(const void *data, size_t len)
{
	need(send(me.socket, data, len, MSG_NOSIGNAL) == (ssize_t)len);
}

static void get(void *data, size_t len)
{
	need(recv(me.socket, data, len, MSG_WAITALL) == (ssize_t)len);
}

void device_open(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);

	if (!list || !list[0])
		skip_test("cannot: no RDMA device");
	me.context = ibv_open_device(list[0]);
	need(me.context);
	ibv_free_device_list(list);
	me.pd = ibv_alloc_pd(me.context);
	need(me.pd);
}

static void make_qp(void)
{
	struct ibv_qp_init_attr init = { .qp_type = IBV_QPT_RC,
					 .cap = { .max_send_wr = 16,
						  .max_recv_wr = 16,
						  .max_send_sge = 1,
						  .max_recv_sge = 1 } };

	me.cq = ibv_create_cq(me.context, 32, NULL, NULL, 0);
	need(me.cq);
	init.send_cq = init.recv_cq = me.cq;
	me.qp = ibv_create_qp(me.pd, &init);
	need(me.qp);
}

static void connect_qp(void)
{
	struct address mine = { .qp = me.qp->qp_num }, other;
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT, .port_num = PORT };

	attr.qp_access_flags = ALL_ACCESS;
	need(ibv_modify_qp(me.qp, &attr,
			   IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				   IBV_QP_ACCESS_FLAGS) == 0);
	need(ibv_query_gid(me.context, PORT, GID_INDEX, &mine.gid) == 0);
	put(&mine, sizeof(mine));
	get(&other, sizeof(other));
	memset(&attr, 0, sizeof(attr));
	attr.qp_state = IBV_QPS_RTR;
	attr.path_mtu = IBV_MTU_1024;
	attr.dest_qp_num = other.qp;
	attr.max_dest_rd_atomic = 1;
	attr.min_rnr_timer = 12;
	attr.ah_attr.is_global = 1;
	attr.ah_attr.port_num = PORT;
	attr.ah_attr.grh.dgid = other.gid;
	attr.ah_attr.grh.sgid_index = GID_INDEX;
	attr.ah_attr.grh.hop_limit = 1;
	need(ibv_modify_qp(me.qp, &attr,
			   IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				   IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				   IBV_QP_MIN_RNR_TIMER) == 0);
	attr.qp_state = IBV_QPS_RTS;
	attr.timeout = 14;
	attr.retry_cnt = 7;
	attr.rnr_retry = 7;
	attr.max_rd_atomic = 1;
	need(ibv_modify_qp(me.qp, &attr,
			   IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				   IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC) == 0);
	/* Nobody sends before both are ready. */
	put(&mine, 1);
	get(&mine, 1);
}

void pair_open(void)
{
	char number[16];
	int fds[2];

	device_open();
	need(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	snprintf(number, sizeof(number), "%d", fds[1]);
	need(setenv("PAIR_SOCKET", number, 1) == 0);
	peer = start_part("pair_peer");
	close(fds[1]);
	me.socket = fds[0];
	make_qp();
	connect_qp();
}

static void wait_done(void)
{
	struct ibv_wc wc;
	int n;

	while ((n = ibv_poll_cq(me.cq, 1, &wc)) == 0)
		continue;
	need(n == 1);
	if (wc.status != IBV_WC_SUCCESS)
		fprintf(stderr, "work completion: %s\n", ibv_wc_status_str(wc.status));
	need(wc.status == IBV_WC_SUCCESS);
}

static void post_send(struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;

	wr->num_sge = 1;
	wr->send_flags = IBV_SEND_SIGNALED;
	need(ibv_post_send(me.qp, wr, &bad) == 0);
}

static void post_receive(struct ibv_sge *sge)
{
	struct ibv_recv_wr wr = { .sg_list = sge, .num_sge = 1 }, *bad;

	need(ibv_post_recv(me.qp, &wr, &bad) == 0);
}

/* ---- the case's side ---- */

static void tell(const struct order *o)
{
	put(o, sizeof(*o));
}

static void wait_peer(void)
{
	char done;

	get(&done, 1);
}

static struct order order(enum operation operation, struct ibv_mr *mr, size_t at, size_t len,
			  uint64_t offset, unsigned seed)
{
	return (struct order){ .operation = operation,
			       .rkey = mr->rkey,
			       .addr = (uintptr_t)mr->addr + at,
			       .len = len,
			       .offset = offset,
			       .seed = seed };
}

void peer_writes(struct ibv_mr *mr, size_t at, size_t len, uint64_t offset, unsigned seed)
{
	peer_writes_iova(mr, (uintptr_t)mr->addr + at, len, offset, seed);
}

void peer_writes_iova(struct ibv_mr *mr, uint64_t iova, size_t len, uint64_t offset,
		      unsigned seed)
{
	struct order o = order(WRITE, mr, 0, len, offset, seed);

	o.addr = iova;
	tell(&o);
	wait_peer();
}

void peer_reads(struct ibv_mr *mr, size_t at, size_t len, uint64_t offset, unsigned seed)
{
	struct order o = order(READ, mr, at, len, offset, seed);

	tell(&o);
	wait_peer();
}

void peer_adds(struct ibv_mr *mr, size_t at, uint64_t add, unsigned times)
{
	struct order o = order(ADD, mr, at, 8, 0, 0);

	o.compare = add;
	o.times = times;
	tell(&o);
	wait_peer();
}

void peer_swaps(struct ibv_mr *mr, size_t at, uint64_t compare, uint64_t swap)
{
	struct order o = order(SWAP, mr, at, 8, 0, 0);

	o.compare = compare;
	o.swap = swap;
	tell(&o);
	wait_peer();
}

void peer_sends(struct ibv_mr *mr, size_t at, size_t len, uint64_t offset, unsigned seed)
{
	struct ibv_sge sge = { (uintptr_t)mr->addr + at, (uint32_t)len, mr->lkey };
	struct order o = order(SEND, mr, at, len, offset, seed);

	post_receive(&sge);
	tell(&o);
	wait_done();
	wait_peer();
}

void peer_receives(struct ibv_mr *mr, size_t at, size_t len, uint64_t offset, unsigned seed)
{
	struct ibv_sge sge = { (uintptr_t)mr->addr + at, (uint32_t)len, mr->lkey };
	struct ibv_send_wr wr = { .opcode = IBV_WR_SEND, .sg_list = &sge };
	struct order o = order(RECEIVE, mr, at, len, offset, seed);

	tell(&o);
	wait_peer(); /* it has posted */
	post_send(&wr);
	wait_done();
	wait_peer(); /* it has compared */
}

void pair_close(void)
{
	struct order o = { .operation = END };

	tell(&o);
	assert_int_equal(wait_for(peer), 0);
	peer = 0;
	assert_int_equal(ibv_destroy_qp(me.qp), 0);
	assert_int_equal(ibv_destroy_cq(me.cq), 0);
	close(me.socket);
}

/* ---- the peer's side ---- */

static void obey(const struct order *o, unsigned char *buf, struct ibv_mr *mr)
{
	struct ibv_sge sge = { (uintptr_t)buf, (uint32_t)o->len, mr->lkey };
	struct ibv_send_wr wr = { .sg_list = &sge };

	if (o->operation == WRITE || o->operation == SEND)
		fill(buf, o->len, o->offset, o->seed);
	wr.wr.rdma.remote_addr = o->addr;
	wr.wr.rdma.rkey = o->rkey;
	switch (o->operation) {
	case WRITE:
		wr.opcode = IBV_WR_RDMA_WRITE;
		break;
	case READ:
		wr.opcode = IBV_WR_RDMA_READ;
		break;
	case SEND:
		wr.opcode = IBV_WR_SEND;
		break;
	case ADD:
	case SWAP:
		wr.opcode = o->operation == ADD ? IBV_WR_ATOMIC_FETCH_AND_ADD
						: IBV_WR_ATOMIC_CMP_AND_SWP;
		wr.wr.atomic.remote_addr = o->addr;
		wr.wr.atomic.rkey = o->rkey;
		wr.wr.atomic.compare_add = o->compare;
		wr.wr.atomic.swap = o->swap;
		break;
	default:
		post_receive(&sge);
		put("", 1);
		wait_done();
		need(differs(buf, o->len, o->offset, o->seed) < 0);
		return;
	}
	for (unsigned i = 0; i < (o->times ? o->times : 1); i++) {
		post_send(&wr);
		wait_done();
	}
	need(o->operation != READ || differs(buf, o->len, o->offset, o->seed) < 0);
}

void pair_peer(void **state)
{
	unsigned char *buf =
		mmap(NULL, LARGEST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct order o = { .operation = END };
	struct ibv_mr *mr;

	(void)state;
	need(buf != MAP_FAILED && getenv("PAIR_SOCKET"));
	me.socket = atoi(getenv("PAIR_SOCKET"));
	device_open();
	make_qp();
	connect_qp();
	mr = ibv_reg_mr(me.pd, buf, LARGEST, IBV_ACCESS_LOCAL_WRITE);
	need(mr);
	for (;;) {
		get(&o, sizeof(o));
		if (o.operation == END)
			return;
		obey(&o, buf, mr);
		put("", 1);
	}
}
