/* A stand-in for tests only: the one function of bcryptprimitives.dll that Rust's library imports. Wine 8, as Debian has
 * it, lacks the DLL, and no Rust program starts without it. Never shipped, and never beside a program on Windows, whose
 * own DLL answers there. Built and put beside the program by xtask/src/wine.rs. */
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) { return RtlGenRandom(data, (ULONG)length); }
