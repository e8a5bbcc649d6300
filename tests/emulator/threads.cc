// SPDX-License-Identifier: Apache-2.0
// The threads of a block as fibers of one thread of the processor. They run in turn; each runs until it must wait.
#include "cuda_runtime.h"

#include <csignal>
#include <mutex>
#include <sys/mman.h>

dim3 emulator_grid, emulator_block_size;
emulator_index emulator_block;

namespace {
enum { THREADS = 1024, STACK = 256 << 10, PLACES = EMULATOR_GROUP_PLACE + 8, GUARD = 4096, PATIENCE = 1000000 };

struct fiber {
    void *stack_pointer;
    char *stack;
    bool done;
};
struct place {
    int here;
    long meetings;
};

fiber fibers[THREADS];
place places[PLACES];
int now, count, alive;
long fruitless; // turns since any thread last got on
void *scheduler;
const std::function<void()> *kernel_now;
unsigned char *shared, *pages;

// Saves what a call must keep, on the stack that is left, and goes on where `to` was left.
extern "C" void emulator_switch(void **from, void *to);
asm(".text\n.globl emulator_switch\nemulator_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");

// The next thread that is not done, after `from`.
int next(int from) {
    for (int i = 1; i <= count; i++)
        if (!fibers[(from + i) % count].done) return (from + i) % count;
    return -1;
}

void entry() {
    void *gone;
    (*kernel_now)();
    fibers[now].done = true;
    fruitless = 0;
    if (--alive == 0) emulator_switch(&gone, scheduler);
    now = next(now);
    emulator_switch(&gone, fibers[now].stack_pointer);
    abort();
}

void prepare(fiber *f) {
    if (!f->stack) f->stack = (char *)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    f->done = false;
    void **top = (void **)(f->stack + STACK - 64);
    *--top = nullptr; // where entry() would return to, which it does not
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    f->stack_pointer = top;
}

// Shared memory whose end is a page that must not be touched.
void lay_out_shared(size_t bytes) {
    const size_t room = EMULATOR_SHARED_BYTES + GUARD;
    if (!pages) {
        pages = (unsigned char *)mmap(nullptr, room / GUARD * GUARD + 2 * GUARD, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(pages + room / GUARD * GUARD, GUARD, PROT_NONE);
    }
    shared = pages + room / GUARD * GUARD - (bytes + 127) / 128 * 128;
    memset(shared, 0xff, bytes); // NaN
}
} // namespace

void emulator_fail(const char *what) {
    fprintf(stderr, "emulated GPU: block %u,%u thread %d: %s\n", emulator_block.x, emulator_block.y, now, what);
    abort();
}

// Of a page that must not be touched.
static void fault(int) {
    signal(SIGSEGV, SIG_DFL);
    if (alive) emulator_fail("touches memory that it must not");
    fprintf(stderr, "emulated GPU: the host touches the device's memory, or none at all\n");
    abort();
}

emulator_index emulator_thread() {
    const unsigned t = (unsigned)now, x = emulator_block_size.x, y = emulator_block_size.y;
    return {t % x, t / x % y, t / x / y};
}

int emulator_lane() {
    return now % 32;
}

int emulator_warp() {
    return now / 32;
}

unsigned char *emulator_shared() {
    return shared;
}

void emulator_yield() {
    const int me = now, other = next(me);
    if (++fruitless > PATIENCE) emulator_fail("threads wait for each other for ever");
    if (other == me) return;
    now = other;
    emulator_switch(&fibers[me].stack_pointer, fibers[other].stack_pointer);
}

void emulator_got_on() {
    fruitless = 0;
}

bool emulator_come(int id, int wanted) {
    place *p = &places[id];
    if (++p->here == wanted) return true;
    const long meetings = p->meetings;
    while (p->meetings == meetings)
        emulator_yield();
    return false;
}

void emulator_part(int id) {
    places[id].here = 0;
    places[id].meetings++;
    emulator_got_on();
}

void emulator_run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &kernel) {
    static std::mutex device; // one kernel at a time
    const std::lock_guard<std::mutex> alone(device);
    signal(SIGSEGV, fault);
    emulator_grid = grid;
    emulator_block_size = block;
    count = (int)(block.x * block.y * block.z);
    kernel_now = &kernel;
    if (count > THREADS || shared_bytes > EMULATOR_SHARED_BYTES) emulator_fail("a launch beyond the device's limits");
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                emulator_block = {x, y, z};
                lay_out_shared(shared_bytes);
                for (place &p : places)
                    p = {};
                for (int i = 0; i < count; i++)
                    prepare(&fibers[i]);
                alive = count;
                fruitless = 0;
                now = 0;
                emulator_switch(&scheduler, fibers[0].stack_pointer);
            }
}
