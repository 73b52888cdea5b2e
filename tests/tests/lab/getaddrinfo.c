/* Prints what getaddrinfo finds for each name, a line a name: its addresses, or why there are none. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct addrinfo hints, *found;
        memset(&hints, 0, sizeof hints);
        hints.ai_socktype = SOCK_STREAM;
        int error = getaddrinfo(argv[i], NULL, &hints, &found);
        printf("%s", argv[i]);
        if (error) {
            printf(" %s", error == EAI_AGAIN ? "later" : error == EAI_FAIL ? "failed" : "none");
        } else {
            for (struct addrinfo *one = found; one; one = one->ai_next) {
                char text[INET6_ADDRSTRLEN] = "";
                const void *addr = one->ai_family == AF_INET
                                       ? (const void *)&((struct sockaddr_in *)one->ai_addr)->sin_addr
                                       : (const void *)&((struct sockaddr_in6 *)one->ai_addr)->sin6_addr;
                inet_ntop(one->ai_family, addr, text, sizeof text);
                printf(" %s", text);
            }
            freeaddrinfo(found);
        }
        printf("\n");
    }
    return 0;
}
