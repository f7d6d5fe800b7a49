/* SPDX-License-Identifier: MIT */
/* Workers. Each file system has a queue of stages with work and a few threads of its own; a
 * stage is with one worker at a time. */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "keeper/keeper.h"
#include "keeper/outsiders.h"
#include "keeper/thread.h"

#define THREADS_MOST 4
#define IDLE_SECONDS 10

static struct job *take_job(struct stage *s)
{
	struct job *j = STAILQ_FIRST(&s->jobs);

	if (j)
		STAILQ_REMOVE_HEAD(&s->jobs, link);
	return j;
}

static void line_up(struct stage *s)
{
	s->queued = true;
	TAILQ_INSERT_TAIL(&s->lane->ready, s, ready);
}

/* The lock is held on entry and exit, and not while a job runs. However much is asked about a
 * stage, its passes come, and others have their turn. */
static void serve(struct stage *s)
{
	struct job *j;

	s->busy = true;
	do {
		j = take_job(s);
		pthread_mutex_unlock(&keeper.lock);
		if (j->kind == JOB_PASS)
			request_pass(s);
		else
			request_run(s, j);
		for (int i = 0; i < PROTO_ASKS; i++)
			if (j->fd[i] >= 0)
				close(j->fd[i]);
		pthread_mutex_lock(&keeper.lock);
		if (j->from)
			conversation_put(j->from);
		free(j);
		lane_post_due_pass(s, now_ms());
	} while (!STAILQ_EMPTY(&s->jobs) && TAILQ_EMPTY(&s->lane->ready));
	s->busy = false;
	if (!STAILQ_EMPTY(&s->jobs))
		line_up(s);
	outsiders_listen_again(s);
	/* Only now does the main thread look at when this stage is due. */
	(void)eventfd_write(keeper.event, 1);
	stage_drop_if_unused(s);
}

static void *worker(void *arg);

static void staff(struct lane *l)
{
	if (l->threads < THREADS_MOST && thread_start(NULL, worker, l) == 0)
		l->threads++;
}

static void *worker(void *arg)
{
	struct lane *l = arg;
	struct timespec until;
	struct stage *s;

	pthread_mutex_lock(&keeper.lock);
	for (;;) {
		s = TAILQ_FIRST(&l->ready);
		if (s) {
			TAILQ_REMOVE(&l->ready, s, ready);
			s->queued = false;
			/* One that is idle may have been woken for several. */
			if (!TAILQ_EMPTY(&l->ready) && !l->idle)
				staff(l);
			serve(s);
			continue;
		}
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += IDLE_SECONDS;
		l->idle++;
		if (pthread_cond_clockwait(&l->wake, &keeper.lock, CLOCK_MONOTONIC, &until) &&
		    TAILQ_EMPTY(&l->ready)) {
			l->idle--;
			break;
		}
		l->idle--;
	}
	l->threads--;
	pthread_mutex_unlock(&keeper.lock);
	return NULL;
}

void lane_post(struct stage *s, struct job *j)
{
	struct lane *l = s->lane;

	STAILQ_INSERT_TAIL(&s->jobs, j, link);
	if (s->queued || s->busy)
		return; /* whoever has it finds the job */
	line_up(s);
	if (l->idle)
		pthread_cond_signal(&l->wake);
	else
		staff(l);
}

/* Threads may be short for a while. */
bool lanes_staffed(void)
{
	struct lane *l;
	bool all = true;

	LIST_FOREACH(l, &keeper.lanes, link) {
		if (l->threads == 0 && !TAILQ_EMPTY(&l->ready))
			staff(l);
		all &= l->threads > 0 || TAILQ_EMPTY(&l->ready);
	}
	return all;
}

void lane_post_pass(struct stage *s)
{
	struct job *j;

	STAILQ_FOREACH(j, &s->jobs, link)
		if (j->kind == JOB_PASS)
			return; /* one does for all that is there by then */
	j = xcalloc(1, sizeof(*j));
	j->kind = JOB_PASS;
	for (int i = 0; i < PROTO_ASKS; i++)
		j->fd[i] = -1;
	lane_post(s, j);
}

void lane_post_due_pass(struct stage *s, uint64_t now)
{
	if (LIST_EMPTY(&s->segments) || s->next_pass > now)
		return;
	lane_post_pass(s);
	s->next_pass = now + 1000; /* the pass sets its own */
}
