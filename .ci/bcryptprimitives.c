// The one function of Windows 10's bcryptprimitives.dll that programs in Rust, such as pydantic's core, import, for
// Wine 8, which lacks that library.

#include <stddef.h>

unsigned char __stdcall SystemFunction036(void *, unsigned long); // RtlGenRandom, of advapi32.dll

__declspec(dllexport) int __stdcall ProcessPrng(unsigned char *data, size_t size) {
  return SystemFunction036(data, (unsigned long)size);
}
