/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * TCP connections, by the processes that have them.
 *
 * The kernel changes most states of a socket while it handles a packet, when some process or none is at hand. So who begins
 * something is remembered with the socket, and told when it has come about.
 *
 * An accept is told where it happens, in the acceptor, by the first of `lsm_accept`, `fexit_accept` and
 * `fexit_accept_early` that can be attached.
 * Where neither can, `on_passive`, `on_receive` and `on_send` take their place: a connection that others opened is told when
 * a process first uses it, or lets go of it; and where that was not seen, at its end, as its listener's.
 */
#include "process.h"

char LICENSE[] SEC("license") = "GPL";

enum kind { CONNECT = 1, CONNECT_FAILED = 2, ACCEPT = 3, LISTEN = 4, CLOSE = 5 };
/* How it is known whose it is. */
enum known_by { NOT_KNOWN, BY_ACT, BY_USE, BY_LISTENER };
/* What COUNTERS counts. */
enum counter { LOST, COUNTER_KINDS };
enum state { ESTABLISHED = 1, SYN_SENT = 2, SYN_RECV = 3, FIN_WAIT1 = 4, CLOSED = 7, LISTENING = 10 };
enum progress { CONNECTING, NOT_ACCEPTED, OPEN };

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
/* The other side sends no more. */
#define SOCK_DONE 1

struct {
    UINT(type, BPF_MAP_TYPE_RINGBUF);
    UINT(max_entries, 1048576);
} CONNECTIONS SEC(".maps");

struct {
    UINT(type, BPF_MAP_TYPE_ARRAY);
    UINT(max_entries, COUNTER_KINDS);
    u32 *key;
    u64 *value;
} CONNECTION_COUNTERS SEC(".maps");

/* By the socket's address, which is its own until it is closed. Past the limit the end of the least used is not told. */
struct entry { struct who who; u64 since; u32 progress, known_by, incoming, unused; };
struct {
    UINT(type, BPF_MAP_TYPE_LRU_HASH);
    UINT(max_entries, 16384);
    u64 *key;
    struct entry *value;
} SOCKETS SEC(".maps");

/* Who began to listen. Of several at one port the last. */
struct place { u32 net; u16 port, family; };
struct {
    UINT(type, BPF_MAP_TYPE_LRU_HASH);
    UINT(max_entries, 4096);
    struct place *key;
    struct who *value;
} LISTENERS SEC(".maps");

struct header { u32 kind, cpu; u64 time; };

/* 200 bytes. */
struct connection {
    struct header header;
    struct who who;
    u8 local[16], remote[16];
    u16 family, local_port, remote_port, known_by;
    u32 net, error;
    u64 inode;
    /* When it was established. */
    u64 since;
    /* Of the connection, where it ends. */
    u64 sent, received;
    u32 incoming, unused;
};

INLINE void count(u32 what)
{
    u64 *counter = bpf_map_lookup_elem(&CONNECTION_COUNTERS, &what);
    if (counter)
        __sync_fetch_and_add(counter, 1);
}

INLINE bool is_tcp(struct sock *sock)
{
    u16 family = sock->__sk_common.skc_family;
    return sock->sk_protocol == IPPROTO_TCP && (family == AF_INET || family == AF_INET6);
}

/* A listener is known by its port's number; of a connection that ends the kernel has forgotten that by now, and keeps the
 * port as packets have it. */
INLINE u16 local_port(struct sock *sock)
{
    u16 port = 0;
    READ(port, (struct inet_sock *)sock, inet_sport);
    return __builtin_bswap16(port);
}

INLINE u32 net_of(struct sock *sock)
{
    u32 net = 0;
    if (HAS(sock->__sk_common.skc_net.net))
        READ(net, sock->__sk_common.skc_net.net, ns.inum);
    return net;
}

INLINE struct place place_of(struct sock *sock)
{
    struct place place = {};
    place.net = net_of(sock);
    place.port = local_port(sock);
    place.family = sock->__sk_common.skc_family;
    return place;
}

INLINE void tell(struct sock *sock, u32 kind, struct entry *entry)
{
    struct connection told = {};
    struct socket *socket = sock->sk_socket;
    struct file *file = NULL;
    struct inode *inode = NULL;
    told.header.kind = kind;
    told.header.cpu = bpf_get_smp_processor_id();
    told.header.time = bpf_ktime_get_boot_ns();
    told.who = entry->who;
    told.known_by = entry->known_by;
    told.incoming = entry->incoming;
    told.since = entry->since;
    told.family = sock->__sk_common.skc_family;
    if (told.family == AF_INET) {
        *(u32 *)told.local = sock->__sk_common.skc_rcv_saddr;
        *(u32 *)told.remote = sock->__sk_common.skc_daddr;
    } else if (HAS(sock->__sk_common.skc_v6_daddr)) {
        READ(told.local, sock, __sk_common.skc_v6_rcv_saddr);
        READ(told.remote, sock, __sk_common.skc_v6_daddr);
    }
    told.local_port = local_port(sock);
    told.remote_port = __builtin_bswap16(sock->__sk_common.skc_dport);
    told.net = net_of(sock);
    told.error = sock->sk_err;
    if (socket) {
        READ(file, socket, file);
        if (file) {
            READ(inode, file, f_inode);
            READ(told.inode, inode, i_ino);
        }
    }
    if (kind == CLOSE) {
        u64 again = 0;
        unsigned long flags;
        READ(told.sent, (struct tcp_sock *)sock, bytes_sent);
        READ(again, (struct tcp_sock *)sock, bytes_retrans);
        told.sent -= again;
        READ(told.received, (struct tcp_sock *)sock, bytes_received);
        flags = sock->__sk_common.skc_flags;
        /* The other side's last word takes the place of a byte. */
        if (flags & (1UL << SOCK_DONE) && told.received)
            told.received--;
    }
    if (bpf_ringbuf_output(&CONNECTIONS, &told, sizeof(told), BPF_RB_NO_WAKEUP))
        count(LOST);
}

NOINLINE bool describe_current(struct who *who)
{
    return describe(who, bpf_get_current_task_btf()->group_leader);
}

SEC("tp_btf/inet_sock_set_state")
int on_state(u64 *arguments)
{
    struct sock *sock = (void *)arguments[0];
    u32 before = arguments[1], now = arguments[2];
    u64 key = (u64)sock;
    struct entry fresh = {}, *entry;
    struct place place;
    struct who *who;

    if (!is_tcp(sock))
        return 0;
    if (before == CLOSED && now == SYN_SENT) {
        fresh.known_by = BY_ACT;
        fresh.progress = CONNECTING;
        if (describe_current(&fresh.who))
            bpf_map_update_elem(&SOCKETS, &key, &fresh, 0);
        return 0;
    }
    if (now == LISTENING) {
        fresh.known_by = BY_ACT;
        if (!describe_current(&fresh.who))
            return 0;
        place = place_of(sock);
        bpf_map_update_elem(&LISTENERS, &place, &fresh.who, 0);
        tell(sock, LISTEN, &fresh);
        return 0;
    }
    if (before == LISTENING && now == CLOSED) {
        place = place_of(sock);
        who = bpf_map_lookup_elem(&LISTENERS, &place);
        if (!who)
            return 0;
        fresh.who = *who;
        fresh.known_by = BY_LISTENER;
        tell(sock, CLOSE, &fresh);
        bpf_map_delete_elem(&LISTENERS, &place);
        return 0;
    }
    entry = bpf_map_lookup_elem(&SOCKETS, &key);
    if (!entry)
        return 0;
    if (entry->progress == CONNECTING && now == ESTABLISHED) {
        entry->progress = OPEN;
        entry->since = bpf_ktime_get_boot_ns();
        tell(sock, CONNECT, entry);
    } else if (now == CLOSED && entry->progress != NOT_ACCEPTED) {
        tell(sock, entry->progress == CONNECTING ? CONNECT_FAILED : CLOSE, entry);
        bpf_map_delete_elem(&SOCKETS, &key);
    }
    return 0;
}

/* ---- accept, where it happens ---- */

INLINE void accepted(struct sock *sock)
{
    u64 key = (u64)sock;
    struct entry entry = {};
    if (!sock || !is_tcp(sock) || !describe_current(&entry.who))
        return;
    entry.progress = OPEN;
    entry.known_by = BY_ACT;
    entry.incoming = 1;
    entry.since = bpf_ktime_get_boot_ns();
    bpf_map_update_elem(&SOCKETS, &key, &entry, 0);
    tell(sock, ACCEPT, &entry);
}

/* A hook without a verdict. */
SEC("lsm/sock_graft")
int lsm_accept(u64 *arguments)
{
    accepted((struct sock *)arguments[0]);
    return 0;
}

/* What is returned comes after the arguments, of which there are two since 6.10 and were four. */
SEC("fexit/inet_csk_accept")
int fexit_accept(u64 *arguments)
{
    accepted((struct sock *)arguments[2]);
    return 0;
}

SEC("fexit/inet_csk_accept")
int fexit_accept_early(u64 *arguments)
{
    accepted((struct sock *)arguments[4]);
    return 0;
}

/* ---- accept, where it can only be seen afterwards ---- */

INLINE void used(struct sock *sock, struct entry *entry)
{
    if (!describe_current(&entry->who))
        return;
    entry->progress = OPEN;
    entry->known_by = BY_USE;
    tell(sock, ACCEPT, entry);
}

/* Attached after `on_state`, which leaves what is not accepted alone. */
SEC("tp_btf/inet_sock_set_state")
int on_passive(u64 *arguments)
{
    struct sock *sock = (void *)arguments[0];
    u32 before = arguments[1], now = arguments[2];
    u64 key = (u64)sock;
    struct entry fresh = {}, *entry;
    struct place place;
    struct who *who;

    if (!is_tcp(sock))
        return 0;
    entry = bpf_map_lookup_elem(&SOCKETS, &key);
    if (before == SYN_RECV && now == ESTABLISHED) {
        if (entry)
            return 0;
        fresh.progress = NOT_ACCEPTED;
        fresh.incoming = 1;
        fresh.since = bpf_ktime_get_boot_ns();
        bpf_map_update_elem(&SOCKETS, &key, &fresh, 0);
        return 0;
    }
    if (!entry || entry->progress != NOT_ACCEPTED)
        return 0;
    /* Who holds the socket's lock is a process that has it: nothing else changes states meanwhile. */
    if (sock->sk_lock.owned && sock->sk_socket)
        used(sock, entry);
    if (now != CLOSED)
        return 0;
    if (entry->progress == NOT_ACCEPTED && sock->sk_socket) {
        place = place_of(sock);
        who = bpf_map_lookup_elem(&LISTENERS, &place);
        if (who) {
            entry->who = *who;
            entry->known_by = BY_LISTENER;
        }
        entry->progress = OPEN;
        tell(sock, ACCEPT, entry);
    }
    /* What nobody accepted is no connection of anybody's. */
    if (entry->progress == OPEN)
        tell(sock, CLOSE, entry);
    bpf_map_delete_elem(&SOCKETS, &key);
    return 0;
}

/* Runs with everything that is sent and received: most of it is not TCP or known. */
INLINE void on_use(struct sock *sock)
{
    u64 key = (u64)sock;
    struct entry *entry;
    if (!is_tcp(sock))
        return;
    entry = bpf_map_lookup_elem(&SOCKETS, &key);
    if (entry && entry->progress == NOT_ACCEPTED)
        used(sock, entry);
}

SEC("tp_btf/sock_recv_length")
int on_receive(u64 *arguments)
{
    on_use((struct sock *)arguments[0]);
    return 0;
}

SEC("tp_btf/sock_send_length")
int on_send(u64 *arguments)
{
    on_use((struct sock *)arguments[0]);
    return 0;
}
