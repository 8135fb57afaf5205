/* nccl.cpp - emulates NCCL between processes of one machine, over local sockets. Only non-blocking
 * communicators are emulated: a call is in progress until ncclCommGetAsyncError was called often
 * enough, and only then its operations enter their stream. A send waits for the matching receive.
 * Behaviour that NCCL leaves undefined ends the program: different counts, host memory, calls in
 * different orders.
 * PLUMB_EMU_NCCL=RANK:WHAT[:CALL] causes a fault on one rank, in its CALL-th group (from 1):
 *   die, stop   the process is killed or stopped while it sends the group
 *   error       ncclCommGetAsyncError reports an error from then on
 *   hang        the group never completes
 *   init        the rank's communicator never becomes ready
 *   refuse      the first operation of the group is refused; the caller must still end the group
 * Test. Includes emu.h. */
#include <nccl.h>

#include "emu.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

using namespace emu;

namespace
{

enum Kind : uint32_t { SEND, RECV, REDUCE, BROADCAST, ACK };
const char *const kind_names[] = {"ncclSend", "ncclRecv", "ncclReduce", "ncclBroadcast", "ack"};

struct Head {
    uint32_t kind, root;
    uint64_t bytes;
};
struct Message {
    Head head;
    std::vector<char> data;
};
struct Peer {
    int fd = -1;
    std::deque<Message> inbox; /* complete messages, except acknowledgements (acks) */
    std::vector<char> in;      /* the bytes received so far of the next message */
    std::deque<char> out;
    uint64_t acks = 0; /* number of acks that have arrived and are not yet used */
};
struct Work {
    Kind kind;
    const char *from;
    char *to;
    size_t bytes;
    int peer; /* rank of the other side, or of the root */
    cudaStream_t stream;
    std::vector<std::vector<char>> part = {}; /* on the root of a reduction: data of each rank */
    size_t waits = 0;                         /* number of acks or parts not yet arrived */
    bool sent = false;
};
enum State { INIT, READY, LAUNCHING, FINAL, DEAD };
enum What { NOTHING, DIE, STOP, ERROR, HANG, NO_INIT, REFUSE };

} // namespace

struct ncclComm {
    State state = INIT;
    ncclResult_t error = ncclSuccess;
    bool aborted = false;
    int n = 0, rank = 0, device = 0, listener = -1;
    std::string id;
    std::vector<Peer> peer;
    std::vector<int> hello; /* connections that have not yet sent their Hello */
    std::vector<Work> launching;
    unsigned questions = 0; /* calls of ncclCommGetAsyncError until the launch is complete */
    size_t pending = 0;     /* number of groups that are in streams */
    long groups = 0, fault_at = 0;
    What fault = NOTHING;
};

namespace
{

struct Group {
    int depth = 0;
    bool failed = false; /* an operation was refused; then ncclGroupEnd drops the whole group */
    ncclComm_t comm = nullptr;
    std::vector<Work> ops;
} group;

ncclComm_t alive(ncclComm_t c, const char *call)
{
    if (!c || c->state == DEAD)
        fault("%s on a communicator that was aborted or destroyed", call);
    return c;
}

sockaddr_un address_of(const ncclComm &c, int rank, socklen_t *len)
{
    sockaddr_un a = {};
    a.sun_family = AF_UNIX;
    const int n = snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "%s-%d", c.id.c_str(), rank);
    *len = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path)) + 1 + static_cast<socklen_t>(n);
    return a;
}

int new_socket()
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fault("nccl: no socket: %s", strerror(errno));
    return fd;
}

void put(Peer &p, const void *data, size_t bytes)
{
    const char *at = static_cast<const char *>(data);
    p.out.insert(p.out.end(), at, at + bytes);
}

/* The first message on a new connection. */
struct Hello {
    int32_t rank, n, device;
};

void accept_hello(ncclComm &c)
{
    for (int fd; (fd = accept4(c.listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;)
        c.hello.push_back(fd);
    for (size_t i = 0; i < c.hello.size(); i++) {
        Hello h;
        const ssize_t got = recv(c.hello[i], &h, sizeof(h), MSG_PEEK);
        if (got < static_cast<ssize_t>(sizeof(h)))
            continue;
        (void)!recv(c.hello[i], &h, sizeof(h), 0);
        if (h.n != c.n || h.rank <= c.rank || h.rank >= c.n || c.peer[size_t(h.rank)].fd >= 0)
            fault("nccl: rank %d of %d joins %d ranks", h.rank, h.n, c.n);
        if (h.device == c.device)
            c.error = ncclInvalidUsage; /* as NCCL's error "duplicate GPU detected" */
        c.peer[size_t(h.rank)].fd = c.hello[i];
        c.hello.erase(c.hello.begin() + static_cast<std::ptrdiff_t>(i--));
    }
}

/* Connects to all lower ranks that accept connections now. Is called again for the others. */
void join(ncclComm &c)
{
    if (c.fault == NO_INIT)
        return;
    accept_hello(c);
    bool all = true;
    for (int r = 0; r < c.n; r++) {
        Peer &p = c.peer[size_t(r)];
        if (r < c.rank && p.fd < 0) {
            socklen_t len;
            const sockaddr_un a = address_of(c, r, &len);
            const int fd = new_socket();
            if (connect(fd, reinterpret_cast<const sockaddr *>(&a), len) == 0) {
                const Hello h = {c.rank, c.n, c.device};
                p.fd = fd;
                put(p, &h, sizeof(h));
            } else {
                close(fd);
            }
        }
        all = all && (r == c.rank || p.fd >= 0);
    }
    if (all)
        c.state = READY;
}

void read_peer(Peer &p)
{
    char block[1 << 16];
    ssize_t got;
    while ((got = recv(p.fd, block, sizeof(block), 0)) > 0)
        p.in.insert(p.in.end(), block, block + got);
    size_t at = 0;
    for (Head h; p.in.size() - at >= sizeof(h);) {
        memcpy(&h, &p.in[at], sizeof(h));
        const size_t bytes = h.kind == ACK ? 0 : size_t(h.bytes);
        if (p.in.size() - at < sizeof(h) + bytes)
            break;
        const char *data = p.in.data() + at + sizeof(h);
        if (h.kind == ACK)
            p.acks++;
        else
            p.inbox.push_back({h, std::vector<char>(data, data + bytes)});
        at += sizeof(h) + bytes;
    }
    p.in.erase(p.in.begin(), p.in.begin() + static_cast<std::ptrdiff_t>(at));
}

void write_peer(Peer &p)
{
    while (!p.out.empty()) {
        char block[1 << 16];
        const size_t n = std::min(p.out.size(), sizeof(block));
        std::copy(p.out.begin(), p.out.begin() + static_cast<std::ptrdiff_t>(n), block);
        const ssize_t sent = send(p.fd, block, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* tries again later, without end if the peer has died */
        p.out.erase(p.out.begin(), p.out.begin() + sent);
    }
}

/* Connects, sends and receives as much as is possible without waiting. */
void progress(ncclComm &c)
{
    if (c.state == INIT)
        join(c);
    for (Peer &p : c.peer)
        if (p.fd >= 0) {
            write_peer(p);
            read_peer(p);
        }
}

void send_to(ncclComm &c, int r, const Work &op)
{
    const Head h = {op.kind, op.kind == SEND ? 0 : uint32_t(op.peer), op.bytes};
    put(c.peer[size_t(r)], &h, sizeof(h));
    put(c.peer[size_t(r)], op.from, op.bytes);
}

/* Sets *data to the next message of rank r. A message that does not fit `kind` and `op` is a fault.
 * Returns false if no complete message has arrived. */
bool take_from(ncclComm &c, int r, Kind kind, const Work &op, std::vector<char> *data)
{
    Peer &p = c.peer[size_t(r)];
    if (p.inbox.empty())
        return false;
    const Head h = p.inbox.front().head;
    if (h.kind != kind || h.bytes != op.bytes || (kind != SEND && int(h.root) != op.peer))
        fault("rank %d's %s of %zu bytes meets rank %d's %s of %zu bytes", c.rank,
              kind_names[op.kind], op.bytes, r, kind_names[h.kind], size_t(h.bytes));
    *data = std::move(p.inbox.front().data);
    p.inbox.pop_front();
    const Head ack = {ACK, 0, 0};
    put(p, &ack, sizeof(ack));
    return true;
}

bool take_ack(Peer &p)
{
    if (p.acks == 0)
        return false;
    p.acks--;
    return true;
}

/* Adds the data of all ranks in the order of a ring that ends at the root. */
void add_up(const ncclComm &c, Work &op)
{
    std::vector<float> sum(op.bytes / sizeof(float)), part(sum.size());
    for (int i = 1; i <= c.n; i++) {
        const int r = (c.rank + i) % c.n;
        const void *from = r == c.rank ? op.from : op.part[size_t(r)].data();
        memcpy(part.data(), from, op.bytes);
        for (size_t k = 0; k < sum.size(); k++)
            sum[k] = i == 1 ? part[k] : sum[k] + part[k];
    }
    memcpy(op.to, sum.data(), op.bytes);
}

void begin_op(ncclComm &c, Work &op)
{
    const bool root = op.peer == c.rank;
    op.sent = true;
    if (op.kind == SEND || (op.kind == REDUCE && !root)) {
        send_to(c, op.peer, op);
        op.waits = 1;
    } else if (op.kind == BROADCAST && root) {
        if (op.to != op.from)
            memmove(op.to, op.from, op.bytes);
        for (int r = 0; r < c.n; r++)
            if (r != c.rank)
                send_to(c, r, op);
        op.waits = size_t(c.n - 1);
    } else if (op.kind == REDUCE) {
        op.part.resize(size_t(c.n));
        op.waits = size_t(c.n - 1);
        if (op.waits == 0)
            add_up(c, op);
    } else {
        op.waits = 1;
    }
}

/* Advances one operation of a group. The operations of a group use the messages of a peer in the
 * order of the group. */
void step_op(ncclComm &c, Work &op, std::vector<bool> &busy, std::vector<bool> &unacked)
{
    const bool root = op.peer == c.rank;
    const auto ack = [&](int r) {
        if (!unacked[size_t(r)] && take_ack(c.peer[size_t(r)]))
            op.waits--;
    };
    const auto data = [&](int r, Kind kind, std::vector<char> *to) {
        const bool came = !busy[size_t(r)] && take_from(c, r, kind, op, to);
        busy[size_t(r)] = busy[size_t(r)] || !came;
        return came;
    };
    if (op.kind == SEND || (op.kind == REDUCE && !root)) {
        ack(op.peer);
        unacked[size_t(op.peer)] = op.waits > 0;
    } else if (op.kind == BROADCAST && root) {
        /* The acks of a peer do not differ, so their number is sufficient. */
        for (int r = 0; r < c.n && op.waits > 0; r++)
            if (r != c.rank)
                ack(r);
    } else if (op.kind == REDUCE) {
        for (int r = 0; r < c.n; r++)
            if (r != c.rank && op.part[size_t(r)].empty() && data(r, REDUCE, &op.part[size_t(r)]))
                op.waits--;
        if (op.waits == 0)
            add_up(c, op);
    } else {
        std::vector<char> bytes;
        if (data(op.peer, op.kind == RECV ? SEND : BROADCAST, &bytes)) {
            memcpy(op.to, bytes.data(), op.bytes);
            op.waits--;
        }
    }
}

/* Advances the first group of a stream. Returns true if it is complete. */
bool step_group(ncclComm &c, std::vector<Work> &ops, long number)
{
    if (c.aborted)
        return true;
    if (c.fault_at == number) {
        if (c.fault == ERROR)
            c.error = ncclSystemError;
        if (c.fault == ERROR || c.fault == HANG)
            return false;
    }
    for (Work &op : ops)
        if (!op.sent)
            begin_op(c, op);
    progress(c);
    if (c.fault_at == number && (c.fault == DIE || c.fault == STOP))
        raise(c.fault == DIE ? SIGKILL : SIGSTOP);
    std::vector<bool> busy(size_t(c.n)), unacked(size_t(c.n));
    bool done = true;
    for (Work &op : ops) {
        if (op.waits > 0)
            step_op(c, op, busy, unacked);
        done = done && op.waits == 0;
    }
    progress(c);
    for (const Peer &p : c.peer)
        done = done && p.out.empty(); /* acks too: the next call may come late */
    return done;
}

void launch_group(ncclComm &c)
{
    auto ops = std::make_shared<std::vector<Work>>(std::move(c.launching));
    c.launching.clear();
    c.pending++;
    const long number = ++c.groups;
    ncclComm *comm = &c;
    push_polled((*ops)[0].stream, [comm, ops, number] {
        if (!step_group(*comm, *ops, number))
            return false;
        comm->pending--;
        return true;
    });
}

void read_fault(ncclComm &c)
{
    static const char *const names[] = {"", "die", "stop", "error", "hang", "init", "refuse"};
    const char *text = getenv("PLUMB_EMU_NCCL");
    int rank = -1;
    char what[8] = "";
    long call = 1;
    if (!text || sscanf(text, "%d:%7[a-z]:%ld", &rank, what, &call) < 2 || rank != c.rank)
        return;
    for (int i = DIE; i <= REFUSE; i++)
        if (strcmp(what, names[i]) == 0) {
            c.fault = static_cast<What>(i);
            c.fault_at = i == NO_INIT ? 0 : call;
        }
}

void check_memory(const char *call, const void *data, size_t bytes)
{
    if (!is_allocated(data, bytes))
        fault("%s: %zu bytes at %p are not inside one allocation of device memory", call, bytes,
              data);
}

ncclResult_t add_op(ncclComm_t c, const Work &op)
{
    const char *call = kind_names[op.kind];
    alive(c, call);
    if (c->state != READY)
        fault("%s while the call before it is in progress", call);
    if (group.depth == 0)
        fault("%s outside of a group", call);
    if (op.bytes == 0 || op.peer < 0 || op.peer >= c->n)
        fault("%s of %zu bytes, peer or root %d of %d", call, op.bytes, op.peer, c->n);
    if ((op.kind == SEND || op.kind == RECV) && op.peer == c->rank)
        fault("%s of rank %d to itself", call, op.peer);
    if (group.comm && (group.comm != c || group.ops[0].stream != op.stream))
        fault("%s: another communicator or stream than the group's", call);
    if (!is_stream(op.stream))
        fault("%s on %p, which is no stream of now", call, static_cast<void *>(op.stream));
    if (c->fault == REFUSE && c->fault_at == c->groups + 1) {
        group.failed = true;
        return ncclInternalError;
    }
    const std::string name = c->id + " to rank " + std::to_string(op.peer);
    take_for_library(name.c_str(), 1 << 20);
    group.comm = c;
    group.ops.push_back(op);
    return ncclSuccess;
}

void end(ncclComm &c)
{
    for (Peer &p : c.peer)
        if (p.fd >= 0)
            close(p.fd);
    for (int fd : c.hello)
        close(fd);
    close(c.listener);
    c.peer.clear();
    c.state = DEAD;
    live_objects--;
}

} // namespace

extern "C" const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const names[] = {"no error",
                                        "unhandled cuda error",
                                        "system error",
                                        "internal error",
                                        "invalid argument",
                                        "invalid usage",
                                        "remote process exited or there was a network error",
                                        "NCCL operation in progress"};
    return names[result];
}

extern "C" const char *ncclGetLastError(ncclComm_t c)
{
    return c && c->error == ncclInvalidUsage ? "Duplicate GPU detected" : "";
}

extern "C" ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

extern "C" ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    static int count = 0;
    memset(id, 0, sizeof(*id));
    snprintf(id->internal, sizeof(id->internal), "plumb-emu-nccl-%ld-%d", long(getpid()), count++);
    return ncclSuccess;
}

extern "C" ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int n, ncclUniqueId id, int rank,
                                               ncclConfig_t *config)
{
    if (n < 1 || rank < 0 || rank >= n || !config || config->magic != 0xcafebeef)
        return ncclInvalidArgument;
    if (config->blocking != 0)
        fault("ncclCommInitRankConfig: only communicators that do not block are emulated");
    ncclComm_t c = new ncclComm(); /* never freed, to detect a use after its destruction */
    c->n = n;
    c->rank = rank;
    c->id = id.internal;
    c->peer.resize(size_t(n));
    cudaDeviceProp device = {};
    (void)cudaGetDevice(&c->device);
    (void)cudaGetDeviceProperties(&device, c->device);
    c->device = device.pciBusID;
    read_fault(*c);
    socklen_t len;
    const sockaddr_un a = address_of(*c, rank, &len);
    c->listener = new_socket();
    if (bind(c->listener, reinterpret_cast<const sockaddr *>(&a), len) != 0 ||
        listen(c->listener, n) != 0)
        fault("nccl: rank %d of %s is there twice: %s", rank, c->id.c_str(), strerror(errno));
    live_objects++;
    *out = c;
    return ncclInProgress;
}

extern "C" ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *error)
{
    alive(c, "ncclCommGetAsyncError");
    progress(*c);
    if (c->state == LAUNCHING && c->questions-- == 0) {
        c->state = READY;
        launch_group(*c);
    }
    const bool waits = c->state == INIT || c->state == LAUNCHING;
    *error = c->error != ncclSuccess ? c->error : waits ? ncclInProgress : ncclSuccess;
    return ncclSuccess;
}

extern "C" ncclResult_t ncclCommFinalize(ncclComm_t c)
{
    alive(c, "ncclCommFinalize");
    if (c->state != READY)
        fault("ncclCommFinalize while a call is in progress");
    c->state = FINAL;
    return ncclInProgress;
}

extern "C" ncclResult_t ncclCommDestroy(ncclComm_t c)
{
    alive(c, "ncclCommDestroy");
    if (c->state != FINAL || c->pending > 0)
        fault("ncclCommDestroy before ncclCommFinalize, or with %zu groups on their way",
              c->pending);
    end(*c);
    return ncclSuccess;
}

extern "C" ncclResult_t ncclCommAbort(ncclComm_t c)
{
    alive(c, "ncclCommAbort");
    if (group.depth > 0)
        fault("ncclCommAbort inside of a group, which was not ended");
    c->aborted = true;
    end(*c);
    return ncclSuccess;
}

extern "C" ncclResult_t ncclGroupStart(void)
{
    if (group.depth++ > 0)
        fault("ncclGroupStart inside of a group");
    return ncclSuccess;
}

extern "C" ncclResult_t ncclGroupEnd(void)
{
    if (group.depth-- != 1)
        fault("ncclGroupEnd without ncclGroupStart");
    if (group.failed) {
        group = Group();
        return ncclInternalError;
    }
    ncclComm_t c = group.comm;
    if (!c)
        return ncclSuccess;
    c->launching = std::move(group.ops);
    group = Group();
    c->state = LAUNCHING;
    c->questions = draw(3);
    return ncclInProgress;
}

extern "C" ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t, int peer,
                                 ncclComm_t c, cudaStream_t s)
{
    check_memory("ncclSend", data, count * sizeof(float));
    return add_op(c,
                  {SEND, static_cast<const char *>(data), nullptr, count * sizeof(float), peer, s});
}

extern "C" ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t, int peer, ncclComm_t c,
                                 cudaStream_t s)
{
    check_memory("ncclRecv", data, count * sizeof(float));
    return add_op(c, {RECV, nullptr, static_cast<char *>(data), count * sizeof(float), peer, s});
}

extern "C" ncclResult_t ncclReduce(const void *from, void *to, size_t count, ncclDataType_t,
                                   ncclRedOp_t, int root, ncclComm_t c, cudaStream_t s)
{
    check_memory("ncclReduce", from, count * sizeof(float));
    if (c && c->rank == root)
        check_memory("ncclReduce", to, count * sizeof(float));
    return add_op(c, {REDUCE, static_cast<const char *>(from), static_cast<char *>(to),
                      count * sizeof(float), root, s});
}

extern "C" ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t,
                                      int root, ncclComm_t c, cudaStream_t s)
{
    check_memory("ncclBroadcast", to, count * sizeof(float));
    if (c && c->rank == root)
        check_memory("ncclBroadcast", from, count * sizeof(float));
    return add_op(c, {BROADCAST, static_cast<const char *>(from), static_cast<char *>(to),
                      count * sizeof(float), root, s});
}
