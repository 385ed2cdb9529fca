/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Text of varying length, gathered in a buffer: names of a path from the file upwards, each ended by NUL. How far it is
 * filled stands in the buffer itself and is masked where it is used: so the verifier, which knows nothing of what it reads
 * from there, sees the same bounds in every round of a loop.
 */
#pragma once
#include "kernel.h"

#define MAX_STEPS 72
#define MAX_NAME 256U
/* Who needs other sizes says so before including this. TEXT is one less than a power of two. */
#ifndef TEXT
#define TEXT 0xffffU
#define PIECE 16384U
/* Room for a piece, as long as the verifier thinks that one may be, that begins at the last offset. */
#define BOUND 32767
#define BUFFER (TEXT + 1 + BOUND + 1)
/* A path may have so many bytes, which leaves room for everything that goes with an event. */
#define MAX_PATH 4096U
#endif

struct buffer { u64 filled; char bytes[BUFFER]; };

INLINE u32 filled(struct buffer *buffer)
{
    return *(volatile u64 *)&buffer->filled & TEXT;
}

INLINE void fill(struct buffer *buffer, u64 to)
{
    *(volatile u64 *)&buffer->filled = to;
}

INLINE void append_name(struct buffer *to, const void *name)
{
    u32 at = filled(to);
    long written = bpf_probe_read_kernel_str(&to->bytes[at], MAX_NAME, name);
    if (written > 0) {
        fill(to, at + written);
    } else {
        to->bytes[at] = 0;
        fill(to, at + 1);
    }
}

/* Says that there was more. */
INLINE void append_nothing(struct buffer *to)
{
    u32 at = filled(to);
    to->bytes[at] = 0;
    fill(to, at + 1);
}

/* As seen from the top of the mount namespace; an empty name at the end says that there was more. */
INLINE void append_path(struct buffer *to, struct vfsmount *vfsmount, struct dentry *dentry)
{
    struct mount *mount = (void *)vfsmount - __builtin_preserve_field_info(((struct mount *)0)->mnt, 0);
    u32 begun = filled(to);
    for (u32 step = 0; step < MAX_STEPS; step++) {
        struct dentry *root = NULL, *parent = NULL;
        const u8 *name = NULL;
        READ(root, mount, mnt.mnt_root);
        READ(parent, dentry, d_parent);
        if (dentry == root) {
            struct mount *above = NULL;
            READ(above, mount, mnt_parent);
            if (above == mount)
                return;
            READ(dentry, mount, mnt_mountpoint);
            mount = above;
            continue;
        }
        READ(name, dentry, d_name.name);
        append_name(to, name);
        if (dentry == parent || !parent)
            return;
        if (filled(to) - begun > MAX_PATH)
            break;
        dentry = parent;
    }
    append_nothing(to);
}

INLINE bool is_unlinked(struct dentry *dentry)
{
    struct hlist_bl_node **hashed = NULL;
    struct dentry *parent = NULL;
    READ(hashed, dentry, d_hash.pprev);
    READ(parent, dentry, d_parent);
    return !hashed && parent != dentry;
}

INLINE struct kernfs_node *above(struct kernfs_node *node)
{
    struct kernfs_node *parent = NULL;
    if (HAS(node->__parent))
        READ(parent, node, __parent);
    else
        READ(parent, (struct kernfs_node___early *)node, parent);
    return parent;
}

/* The hierarchy whose path says most: the unified one where the process is in a group of it, else that of systemd, else
 * the newest one where it is in a group. */
INLINE struct kernfs_node *group_of(struct css_set *set)
{
    struct kernfs_node *best = NULL, *unified = NULL;
    struct list_head *entry = NULL, *head = __builtin_preserve_access_index(&set->cgrp_links);
    struct cgroup *group = NULL;
    int newest = -1;
    READ(group, set, dfl_cgrp);
    READ(unified, group, kn);
    if (above(unified))
        return unified;
    READ(entry, set, cgrp_links.next);
    for (u32 i = 0; i < 24 && entry != head; i++) {
        struct cgrp_cset_link *link =
            (void *)entry - __builtin_preserve_field_info(((struct cgrp_cset_link *)0)->cgrp_link, 0);
        struct cgroup_root *root = NULL;
        struct kernfs_node *node = NULL;
        u64 name = 0;
        int hierarchy = 0;
        READ(group, link, cgrp);
        READ(node, group, kn);
        READ(root, group, root);
        READ(hierarchy, root, hierarchy_id);
        bpf_probe_read_kernel(&name, sizeof(name), __builtin_preserve_access_index(&root->name));
        if (above(node)) {
            /* "systemd" and its NUL. */
            if (name == 0x00646d6574737973ULL)
                return node;
            if (hierarchy > newest) {
                newest = hierarchy;
                best = node;
            }
        }
        READ(entry, link, cgrp_link.next);
    }
    return best ? best : unified;
}

INLINE void append_group(struct buffer *to, struct css_set *set)
{
    struct kernfs_node *node = group_of(set);
    u32 begun = filled(to);
    for (u32 step = 0; step < 32; step++) {
        struct kernfs_node *parent = above(node);
        const char *name = NULL;
        if (!parent)
            return;
        if (filled(to) - begun > MAX_PATH)
            break;
        READ(name, node, name);
        append_name(to, name);
        node = parent;
    }
    append_nothing(to);
}

#ifdef PIECE
/* A piece of the memory of the process at hand, as much of it as is there: a page that is not in memory ends it. */
INLINE void append_memory(struct buffer *to, u64 from, u64 length)
{
    u32 at = filled(to);
    u32 wanted = length < PIECE ? length : PIECE;
    u32 in_page = 4096 - (from & 4095);
    if (wanted == 0)
        return;
    /* Changes nothing, and is what the verifier understands. */
    asm volatile("%0 &= %1" : "+r"(wanted) : "i"(BOUND));
    if (bpf_probe_read_user(&to->bytes[at], wanted, (void *)from)) {
        if (wanted > in_page)
            wanted = in_page;
        asm volatile("%0 &= %1" : "+r"(wanted) : "i"(BOUND));
        if (bpf_probe_read_user(&to->bytes[at], wanted, (void *)from))
            return;
    }
    fill(to, at + wanted);
}
#endif

/* What was appended since the last time. */
INLINE u32 part(struct buffer *buffer, u32 *begun)
{
    u32 now = filled(buffer), length = now - *begun;
    *begun = now;
    return length;
}
