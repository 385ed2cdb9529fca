/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What is said of a process, in events and by iterators alike, and how it is found. Numbers are the host's, in its byte
 * order; the reader is procmond/src/kernel/layout.rs, and both change together.
 */
#pragma once
#include "kernel.h"

/* Set before loading: only processes of this PID namespace are told, by the pids that they have in it. */
volatile const u32 OWN_PID_NAMESPACE = 0;

/* 88 bytes. Times are nanoseconds since boot. */
struct who {
    u64 start, parent_start;
    u64 exec_id;
    u32 pid, parent;
    u32 uid, gid, euid, egid;
    u32 login, audit_session;
    u32 session, tty;
    u32 flags, unused;
    char name[16];
};

/* 32 bytes: inode numbers. */
struct namespaces { u32 mnt, net, uts, ipc, cgroup, pid, user, unused; };

/* The number that our namespace has for a process; 0 where it has none. */
INLINE u32 number_of(struct pid *pid)
{
    u32 level = 0;
    if (!pid || READ(level, pid, level))
        return 0;
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        struct pid_namespace *ns = NULL;
        u32 inum = 0;
        int number = 0;
        if (i > level)
            break;
        READ(ns, pid, numbers[i].ns);
        READ(inum, ns, ns.inum);
        if (inum != OWN_PID_NAMESPACE)
            continue;
        READ(number, pid, numbers[i].nr);
        return number;
    }
    return 0;
}

INLINE u32 innermost_namespace(struct pid *pid)
{
    u32 level = 0, inum = 0;
    struct pid_namespace *ns = NULL;
    READ(level, pid, level);
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        if (i != level)
            continue;
        READ(ns, pid, numbers[i].ns);
        READ(inum, ns, ns.inum);
    }
    return inum;
}

/* In the form in which stat(2) gives a device's number, of which /proc/PID/stat has the lower half. */
INLINE u32 terminal_of(struct signal_struct *signal)
{
    struct tty_struct *tty = signal->tty;
    u32 major, minor;
    if (!tty)
        return 0;
    major = tty->driver->major;
    minor = tty->driver->minor_start + tty->index;
    return (minor & 0xff) | (major << 8) | ((minor & ~0xffU) << 12);
}

/* False for who is not in our PID namespace. The task is the first of its process. */
INLINE bool describe(struct who *who, struct task_struct *leader)
{
    struct task_struct *parent = leader->real_parent->group_leader;
    const struct cred *cred = leader->cred;
    who->pid = number_of(leader->thread_pid);
    if (!who->pid)
        return false;
    who->start = leader->start_boottime;
    who->parent = number_of(parent->thread_pid);
    who->parent_start = who->parent ? parent->start_boottime : 0;
    who->exec_id = leader->self_exec_id;
    who->uid = cred->uid.val;
    who->gid = cred->gid.val;
    who->euid = cred->euid.val;
    who->egid = cred->egid.val;
    who->login = HAS(leader->loginuid) ? leader->loginuid.val : UNSET;
    who->audit_session = HAS(leader->sessionid) ? leader->sessionid : UNSET;
    who->session = number_of(leader->signal->pids[PIDTYPE_SID]);
    who->tty = terminal_of(leader->signal);
    who->flags = leader->flags;
    who->unused = 0;
    bpf_probe_read_kernel_str(who->name, sizeof(who->name), leader->comm);
    return true;
}

INLINE void describe_namespaces(struct namespaces *to, struct task_struct *task)
{
    struct nsproxy *of = task->nsproxy;
    __builtin_memset(to, 0, sizeof(*to));
    to->pid = innermost_namespace(task->thread_pid);
    to->user = task->cred->user_ns->ns.inum;
    if (!of)
        return;
    to->mnt = of->mnt_ns->ns.inum;
    to->net = of->net_ns->ns.inum;
    to->uts = of->uts_ns->ns.inum;
    to->ipc = of->ipc_ns->ns.inum;
    to->cgroup = of->cgroup_ns->ns.inum;
}
