/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Processes that begin, change their program, and end.
 *
 * Each event is one record of the ring. Where the ring has no room the event is counted as lost, by its kind; forks are
 * given up while there is still room for what says more. Nobody is woken: the reader looks every few milliseconds.
 */
#include "process.h"
#include "text.h"

char LICENSE[] SEC("license") = "GPL";

/* Set before loading. */
volatile const u32 MAX_ARGUMENTS = 262144;
volatile const u32 WANT_ENVIRONMENT = 1;

enum kind { FORK = 1, EXEC = 2, EXIT = 3, MORE_ARGUMENTS = 4 };

/* What COUNTERS counts. */
enum counter {
    LOST_FORK, LOST_EXEC, LOST_EXIT, LOST_ARGUMENTS, SHED_FORK,
    /* Calls of the programs, of threads too: who begins and ends a thread sees whether they are still there. */
    BEAT_FORK, BEAT_EXIT,
    COUNTER_KINDS
};

struct {
    UINT(type, BPF_MAP_TYPE_RINGBUF);
    UINT(max_entries, 8388608);
} EVENTS SEC(".maps");

struct {
    UINT(type, BPF_MAP_TYPE_ARRAY);
    UINT(max_entries, COUNTER_KINDS);
    u32 *key;
    u64 *value;
} COUNTERS SEC(".maps");

/* One for each processor: no program here is interrupted by itself. */
struct {
    UINT(type, BPF_MAP_TYPE_ARRAY);
    UINT(max_entries, 1);
    u32 *key;
    struct buffer *value;
} BUFFERS SEC(".maps");

/* 16 bytes. */
struct header { u32 kind, cpu; u64 time; };

/* Of whom the child is a copy; with CLONE_PARENT that is not its parent. */
struct fork_event { struct header header; struct who who; u64 original_start; u32 original, unused; };

/* A part of the arguments that does not fit the event, told before it; `at` counts from their beginning. */
struct more_event { struct header header; u64 start; u32 pid, at; };

struct exec_event {
    struct header header;
    struct who who;
    struct namespaces namespaces;
    u64 inode, size;
    s64 modified, changed;
    u32 modified_ns, changed_ns;
    u32 device, links, mode;
    /* 1: the program's name is gone. 2: that of the working directory. */
    u32 unlinked;
    u64 arguments, environment;
    /* Lengths of what follows, in this order. */
    u32 path, cwd, group, invoked, environment_here, arguments_here;
};

struct exit_event {
    struct header header;
    struct who who;
    u64 cpu, max_resident_pages;
    u32 code, unused;
};

INLINE void count(u32 what)
{
    u64 *counter = bpf_map_lookup_elem(&COUNTERS, &what);
    if (counter)
        __sync_fetch_and_add(counter, 1);
}

INLINE void begin(struct header *header, u32 kind)
{
    header->kind = kind;
    header->cpu = bpf_get_smp_processor_id();
    header->time = bpf_ktime_get_boot_ns();
}

INLINE long tell(void *data, u64 size)
{
    return bpf_ringbuf_output(&EVENTS, data, size, BPF_RB_NO_WAKEUP);
}

SEC("tp_btf/sched_process_fork")
int on_fork(u64 *arguments)
{
    struct task_struct *original = ((struct task_struct *)arguments[0])->group_leader;
    struct task_struct *child = (void *)arguments[1];
    struct fork_event event = {};
    count(BEAT_FORK);
    if (child->pid != child->tgid)
        return 0;
    if (!describe(&event.who, child))
        return 0;
    if (bpf_ringbuf_query(&EVENTS, BPF_RB_AVAIL_DATA) > bpf_ringbuf_query(&EVENTS, BPF_RB_RING_SIZE) / 2) {
        count(SHED_FORK);
        return 0;
    }
    event.original = number_of(original->thread_pid);
    event.original_start = event.original ? original->start_boottime : 0;
    begin(&event.header, FORK);
    if (tell(&event, sizeof(event)))
        count(LOST_FORK);
    return 0;
}

INLINE void file_times(struct exec_event *event, struct inode *inode)
{
    if (HAS(inode->i_mtime_sec)) {
        READ(event->modified, inode, i_mtime_sec);
        READ(event->modified_ns, inode, i_mtime_nsec);
        READ(event->changed, inode, i_ctime_sec);
        READ(event->changed_ns, inode, i_ctime_nsec);
        return;
    }
    struct timespec64 modified = {}, changed = {};
    if (HAS(((struct inode___structures *)inode)->__i_mtime)) {
        READ(modified, (struct inode___structures *)inode, __i_mtime);
        READ(changed, (struct inode___structures *)inode, __i_ctime);
    } else if (HAS(((struct inode___middle *)inode)->__i_ctime)) {
        READ(modified, (struct inode___middle *)inode, i_mtime);
        READ(changed, (struct inode___middle *)inode, __i_ctime);
    } else {
        READ(modified, (struct inode___early *)inode, i_mtime);
        READ(changed, (struct inode___early *)inode, i_ctime);
    }
    event->modified = modified.tv_sec;
    event->modified_ns = modified.tv_nsec;
    event->changed = changed.tv_sec;
    event->changed_ns = changed.tv_nsec;
}

/* What of the arguments comes after the piece that goes with the event. */
INLINE void tell_more_arguments(struct buffer *buffer, struct who *who, u64 from, u64 length)
{
    struct more_event *more = (void *)buffer->bytes;
    for (u32 i = 1; i < 64; i++) {
        u64 at = i * (u64)PIECE;
        if (at >= length || at >= MAX_ARGUMENTS)
            return;
        fill(buffer, sizeof(*more));
        append_memory(buffer, from + at, length - at);
        begin(&more->header, MORE_ARGUMENTS);
        more->start = who->start;
        more->pid = who->pid;
        more->at = at;
        if (tell(more, filled(buffer))) {
            count(LOST_ARGUMENTS);
            return;
        }
    }
}

SEC("tp_btf/sched_process_exec")
int on_exec(u64 *arguments)
{
    struct task_struct *task = (void *)arguments[0];
    struct linux_binprm *binary = (void *)arguments[2];
    struct file *file = binary->file;
    struct mm_struct *mm = task->mm;
    u32 cpu = bpf_get_smp_processor_id();
    struct buffer *buffer = bpf_map_lookup_elem(&BUFFERS, &cpu);
    struct exec_event *event;
    struct inode *inode;
    struct path path = {}, pwd = {};
    struct who who = {};
    u32 begun = sizeof(struct exec_event);
    u64 argument_bytes, environment_bytes;
    long invoked;

    if (!buffer || !mm || !describe(&who, task->group_leader))
        return 0;
    argument_bytes = mm->arg_end - mm->arg_start;
    environment_bytes = mm->env_end - mm->env_start;
    if (argument_bytes > PIECE)
        tell_more_arguments(buffer, &who, mm->arg_start, argument_bytes);

    event = (void *)buffer->bytes;
    begin(&event->header, EXEC);
    event->who = who;
    describe_namespaces(&event->namespaces, task);
    inode = file->f_inode;
    event->inode = inode->i_ino;
    event->size = inode->i_size;
    event->device = inode->i_sb->s_dev;
    event->links = inode->i_nlink;
    event->mode = inode->i_mode;
    file_times(event, inode);
    event->arguments = argument_bytes;
    event->environment = environment_bytes;

    READ(path, file, f_path);
    READ(pwd, task->fs, pwd);
    event->unlinked = (is_unlinked(path.dentry) ? 1 : 0) | (is_unlinked(pwd.dentry) ? 2 : 0);
    fill(buffer, begun);
    append_path(buffer, path.mnt, path.dentry);
    event->path = part(buffer, &begun);
    append_path(buffer, pwd.mnt, pwd.dentry);
    event->cwd = part(buffer, &begun);
    append_group(buffer, task->cgroups);
    event->group = part(buffer, &begun);
    invoked = bpf_probe_read_kernel_str(&buffer->bytes[filled(buffer)], MAX_PATH, binary->filename);
    if (invoked > 0)
        fill(buffer, begun + invoked);
    event->invoked = part(buffer, &begun);
    if (WANT_ENVIRONMENT)
        append_memory(buffer, mm->env_start, environment_bytes);
    event->environment_here = part(buffer, &begun);
    append_memory(buffer, mm->arg_start, argument_bytes);
    event->arguments_here = part(buffer, &begun);
    if (tell(event, filled(buffer)))
        count(LOST_EXEC);
    return 0;
}

/* The last thread that ends ends the process. */
INLINE void ended(struct task_struct *task)
{
    struct task_struct *leader = task->group_leader;
    struct signal_struct *signal = task->signal;
    struct exit_event event = {};
    if (!describe(&event.who, leader))
        return;
    event.cpu = signal->sum_sched_runtime + task->se.sum_exec_runtime;
    if (leader != task)
        event.cpu += leader->se.sum_exec_runtime;
    event.max_resident_pages = signal->maxrss;
    event.code = signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code : leader->exit_code;
    begin(&event.header, EXIT);
    if (tell(&event, sizeof(event)))
        count(LOST_EXIT);
}

/* Where the tracepoint says which thread is the last: Linux 6.18 does, 6.12 does not and refuses this program. */
SEC("tp_btf/sched_process_exit")
int on_last_exit(u64 *arguments)
{
    count(BEAT_EXIT);
    if ((bool)arguments[1])
        ended((void *)arguments[0]);
    return 0;
}

/* Everywhere else the number of those that go on does. Two that end together may both look like the last; the reader takes
 * the first. */
SEC("tp_btf/sched_process_exit")
int on_exit(u64 *arguments)
{
    struct task_struct *task = (void *)arguments[0];
    count(BEAT_EXIT);
    if (!task->signal->live.counter)
        ended(task);
    return 0;
}
