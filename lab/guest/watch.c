/* Watches a guest's generator from its first moment on, as its first program.
 *
 * It starts the real init and goes on beside it: a hundred times a second it asks
 * getrandom(GRND_NONBLOCK) for one byte, which makes no kernel do anything, and notes in
 * /lab-watch, in seconds of CLOCK_MONOTONIC:
 *
 *     SECONDS start | waiting | ready | network
 *
 * "waiting" once a second while the generator is not ready; "network" once there is a default
 * route. Linked statically: nothing that a library does when it is loaded comes into it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static int out;

static double now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

static void note(const char *what)
{
	char line[64];
	int length = snprintf(line, sizeof line, "%.3f %s\n", now(), what);

	if (write(out, line, length) != length)
		_exit(1);
}

/* /proc/net/route: a line of names, then interface, destination, ... */
static int has_default_route(void)
{
	char text[4096], *line = text;
	int file = open("/proc/net/route", O_RDONLY | O_CLOEXEC);
	ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);

	if (file >= 0)
		close(file);
	if (length <= 0)
		return 0;
	text[length] = 0;
	while ((line = strchr(line, '\n')) && *++line) {
		char *destination = strchr(line, '\t');

		if (destination && !strncmp(destination, "\t00000000\t", 10))
			return 1;
	}
	return 0;
}

static void watch(void)
{
	struct timespec pause = { 0, 10 * 1000 * 1000 };
	int ready = 0, network = 0;
	double next = 0;
	char byte;

	note("start");
	while (!ready || !network) {
		if (!ready && getrandom(&byte, 1, GRND_NONBLOCK) == 1) {
			ready = 1;
			note("ready");
		} else if (!ready && now() >= next) {
			next = now() + 1;
			note("waiting");
		}
		if (!network && has_default_route()) {
			network = 1;
			note("network");
		}
		nanosleep(&pause, NULL);
	}
}

int main(int argc, char **argv)
{
	(void)argc;
	out = open("/lab-watch", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fork() == 0) {
		watch();
		return 0;
	}
	argv[0] = "/init";
	execv("/init", argv);
	return 1;
}
