// Memory of a thread that is kept from call to call. A std::vector would have a destructor with linkage, and the linker
// might take the copy of an instruction set that the machine lacks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace proxconnect {
namespace {

// Memory for `count` entries, from a cache line on. Each Tag has its own. Throws std::bad_alloc and is then empty.
template <class Entry, class Tag = Entry>
inline Entry* scratch(int64_t count) {
    static thread_local struct Buffer {
        void* memory = nullptr;
        size_t size = 0;

        void release() {
            operator delete(memory, std::align_val_t{64});
            memory = nullptr, size = 0;
        }

        ~Buffer() { release(); }
    } buffer;
    const size_t needed = static_cast<size_t>(count) * sizeof(Entry);  // huge if a product overflowed
    if (buffer.size < needed) {
        buffer.release();
        buffer.memory = operator new(needed, std::align_val_t{64});
        buffer.size = needed;
    }
    return static_cast<Entry*>(buffer.memory);
}

}  // namespace
}  // namespace proxconnect
