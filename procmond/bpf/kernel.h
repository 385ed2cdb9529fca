/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What these programs know of the kernel: of each structure only the members that are used. Where they lie is found
 * when a program is loaded (CO-RE), so one object serves every kernel that has them; members that came or went between
 * 5.8 and today have a second declaration, whose name ends in three underscores and a word.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;
typedef int s32;
typedef _Bool bool;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))
#define NULL ((void *)0)
#define true 1
#define false 0
#define UNSET 0xffffffffU

/* ---- helpers of the kernel, by their numbers in its user API ---- */

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
struct task_struct;
static struct task_struct *(*const bpf_get_current_task_btf)(void) = (void *)158;
static long (*const bpf_probe_read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*const bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*const bpf_probe_read_kernel_str)(void *to, u32 size, const void *from) = (void *)115;
static u64 (*const bpf_ktime_get_boot_ns)(void) = (void *)125;
static long (*const bpf_seq_write)(void *seq, const void *data, u32 size) = (void *)127;
static void *(*const bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static long (*const bpf_ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static u64 (*const bpf_ringbuf_query)(void *ring, u64 what) = (void *)134;
static long (*const bpf_copy_from_user_task)(void *to, u32 size, const void *from, void *task, u64 flags) = (void *)191;

#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_RB_NO_WAKEUP 1
#define BPF_RB_AVAIL_DATA 0
#define BPF_RB_RING_SIZE 1

/* Declares a member of a map whose type says a number. */
#define UINT(name, value) int(*name)[value]

/* Reads a member through a pointer that the kernel does not vouch for. */
#define READ(to, from, member) \
    bpf_probe_read_kernel(&(to), sizeof(to), __builtin_preserve_access_index(&(from)->member))
/* Whether this kernel has the member, the type, the value. */
#define HAS(member) __builtin_preserve_field_info(member, 2)

/* ---- structures ---- */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct { u32 val; } kuid_t;
typedef struct { u32 val; } kgid_t;
typedef struct { int counter; } atomic_t;

struct list_head { struct list_head *next, *prev; };
struct ns_common { u32 inum; };
struct user_namespace { struct ns_common ns; };
struct pid_namespace { struct ns_common ns; };
struct mnt_namespace { struct ns_common ns; };
struct uts_namespace { struct ns_common ns; };
struct ipc_namespace { struct ns_common ns; };
struct cgroup_namespace { struct ns_common ns; };
struct net { struct ns_common ns; };

struct nsproxy {
    struct uts_namespace *uts_ns;
    struct ipc_namespace *ipc_ns;
    struct mnt_namespace *mnt_ns;
    struct net *net_ns;
    struct cgroup_namespace *cgroup_ns;
};

struct upid { int nr; struct pid_namespace *ns; };
struct pid { u32 level; struct upid numbers[1]; };

struct cred {
    kuid_t uid; kgid_t gid;
    kuid_t euid; kgid_t egid;
    struct user_namespace *user_ns;
};

struct qstr { const u8 *name; };
struct hlist_bl_node { struct hlist_bl_node **pprev; };
struct super_block { u32 s_dev; };
struct timespec64 { s64 tv_sec; long tv_nsec; };
struct inode {
    u16 i_mode;
    struct super_block *i_sb;
    unsigned long i_ino;
    u32 i_nlink;
    s64 i_size;
    s64 i_mtime_sec; u32 i_mtime_nsec;
    s64 i_ctime_sec; u32 i_ctime_nsec;
};
/* Until 6.10 the times were structures, and until 6.6 and 6.7 under other names. */
struct inode___structures { struct timespec64 __i_mtime, __i_ctime; };
struct inode___middle { struct timespec64 i_mtime, __i_ctime; };
struct inode___early { struct timespec64 i_mtime, i_ctime; };

struct dentry {
    struct hlist_bl_node d_hash;
    struct dentry *d_parent;
    struct qstr d_name;
};
struct vfsmount { struct dentry *mnt_root; };
struct mount {
    struct mount *mnt_parent;
    struct dentry *mnt_mountpoint;
    struct vfsmount mnt;
};
struct path { struct vfsmount *mnt; struct dentry *dentry; };
struct file { struct path f_path; struct inode *f_inode; };
struct fs_struct { struct path pwd; };

struct kernfs_node { struct kernfs_node *__parent; const char *name; };
/* Before 6.15. */
struct kernfs_node___early { struct kernfs_node *parent; };
struct cgroup_root { int hierarchy_id; char name[64]; };
struct cgroup { struct kernfs_node *kn; struct cgroup_root *root; };
struct cgrp_cset_link { struct cgroup *cgrp; struct list_head cgrp_link; };
struct css_set { struct cgroup *dfl_cgrp; struct list_head cgrp_links; };

struct mm_struct {
    unsigned long arg_start, arg_end, env_start, env_end;
    struct file *exe_file;
};

struct tty_driver { int major, minor_start; };
struct tty_struct { struct tty_driver *driver; int index; };

struct signal_struct {
    atomic_t live;
    struct list_head thread_head;
    struct pid *pids[4];
    struct tty_struct *tty;
    u32 flags;
    int group_exit_code;
    unsigned long maxrss;
    u64 sum_sched_runtime;
};

struct sched_entity { u64 sum_exec_runtime; };

struct task_struct {
    u32 flags;
    struct sched_entity se;
    struct mm_struct *mm;
    int exit_code;
    int pid, tgid;
    struct task_struct *real_parent, *group_leader;
    struct pid *thread_pid;
    u64 start_boottime;
    u64 self_exec_id;
    const struct cred *cred;
    char comm[16];
    kuid_t loginuid;
    u32 sessionid;
    struct fs_struct *fs;
    struct nsproxy *nsproxy;
    struct signal_struct *signal;
    struct css_set *cgroups;
    u32 __state;
    int exit_state;
    struct list_head thread_node;
};
/* Before 5.14. */
struct task_struct___early { long state; };

struct linux_binprm { const char *filename; struct file *file; };

struct vm_area_struct {
    unsigned long vm_start, vm_end, vm_flags;
    struct file *vm_file;
    void *anon_vma;
};
struct module { char name[56]; };

struct in6_addr { u8 bytes[16]; };
typedef struct { struct net *net; } possible_net_t;
struct sock_common {
    u32 skc_daddr, skc_rcv_saddr;
    u16 skc_dport, skc_num, skc_family;
    unsigned long skc_flags;
    struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr;
    possible_net_t skc_net;
};
typedef struct { int owned; } socket_lock_t;
struct socket { struct file *file; };
struct sock {
    struct sock_common __sk_common;
    socket_lock_t sk_lock;
    u16 sk_protocol;
    int sk_err;
    struct socket *sk_socket;
};
struct inet_sock { u16 inet_sport; };
struct tcp_sock { u64 bytes_received, bytes_sent, bytes_retrans; };

/* What a task has in memory: since 6.2 counters of which each processor holds a part back, before that plain ones. */
struct percpu_counter { s64 count; };
struct mm_struct___counters { struct percpu_counter rss_stat[4]; };
struct atomic_count { s64 counter; };
struct mm_rss_stat { struct atomic_count count[4]; };
struct mm_struct___early { struct mm_rss_stat rss_stat; };

struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; u64 session_id, seq_num; };
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; };

#pragma clang attribute pop

#define PIDTYPE_SID 3
#define SIGNAL_GROUP_EXIT 4
