// Memory of exactly the size that an entry point may use. One end meets a page that faults, which catches tiles and
// assembly that AddressSanitizer does not see. The other end meets poisoned memory.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define PROXCONNECT_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PROXCONNECT_HAS_ASAN 1
#endif
#endif
#if defined(PROXCONNECT_HAS_ASAN)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace fuzz {

// Pages between two that fault, reused by one array after another.
struct Room {
    static constexpr size_t SIZE = size_t{32} << 20;
    uint8_t* begin;

    static Room taken() {
        std::vector<Room>& rooms = free_rooms();
        if (rooms.empty()) rooms.push_back(made());
        const Room room = rooms.back();
        rooms.pop_back();
        return room;
    }

    void give_back() const { free_rooms().push_back(*this); }

  private:
    static std::vector<Room>& free_rooms() {
        static std::vector<Room> rooms;
        return rooms;
    }

    static Room made() {
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        void* const all = mmap(nullptr, SIZE + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        uint8_t* const begin = static_cast<uint8_t*>(all) + page;
        if (all == MAP_FAILED || mprotect(begin, SIZE, PROT_READ | PROT_WRITE) != 0) {
            std::perror("memory for an array");
            std::abort();
        }
        ASAN_POISON_MEMORY_REGION(begin, SIZE);
        return {begin};
    }
};

// An array, filled with bytes that calls should overwrite.
template <class T> class Guarded {
  public:
    explicit Guarded(int64_t count, bool is_at_end = true)
        : room_(Room::taken()), count_(static_cast<size_t>(count)),
          first_(reinterpret_cast<T*>(room_.begin + (is_at_end ? Room::SIZE - bytes() : 0))) {
        if (bytes() > Room::SIZE) std::abort();
        ASAN_UNPOISON_MEMORY_REGION(first_, bytes());
        std::memset(static_cast<void*>(first_), 0xa5, bytes());
    }

    Guarded(Guarded&& other) : room_(other.room_), count_(other.count_), first_(other.first_) {
        other.first_ = nullptr;
    }

    ~Guarded() {
        if (first_ == nullptr) return;
        ASAN_POISON_MEMORY_REGION(first_, bytes());
        room_.give_back();
    }

    T* data() { return first_; }
    const T* data() const { return first_; }
    int64_t size() const { return static_cast<int64_t>(count_); }
    T* begin() { return first_; }
    T* end() { return first_ + count_; }
    T& operator[](int64_t i) { return first_[i]; }
    const T& operator[](int64_t i) const { return first_[i]; }

    std::vector<T> copy() const { return std::vector<T>(first_, first_ + count_); }

    bool is_still(const std::vector<T>& before) const {
        return bytes() == 0 || std::memcmp(first_, before.data(), bytes()) == 0;
    }

  private:
    size_t bytes() const { return count_ * sizeof(T); }

    Room room_;
    size_t count_;
    T* first_;
};

}  // namespace fuzz
